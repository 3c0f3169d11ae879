"""Packs: vectors with their evidence as a folder, checked and opened again, from a disk and from the hub."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import constants
from typer.testing import CliRunner

from steering_core.baking.folder import staged
from steering_core.cli.vectors import app
from steering_core.concepts import Concept
from steering_core.exports.files import export_vectors
from steering_core.foundation.errors import (
    HubUnreachable,
    ModelNotFound,
    OutputError,
    VectorError,
    VectorFileError,
    VectorMismatch,
)
from steering_core.foundation.keys import content_key, file_sha256
from steering_core.models import Model
from steering_core.packs.evidence import evidence
from steering_core.packs.pack import pack
from steering_core.packs.unpack import unpack
from steering_core.pipeline.discover import run
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.store.tables import TABLES
from steering_core.vectors import library, saving
from steering_core.vectors.vector import Vector
from tests import quick
from tests.hub_server import Hub, Repository, hub_server
from tests.stored import identity


def kept(store: Store, name: str = "made-up") -> list[Vector]:
    """Two vectors of a model that exists in name alone, called `calm`, one of them tagged."""
    model = identity(name)
    store.append("models", [dataclasses.asdict(model)])
    drawn = np.random.default_rng(3).standard_normal((2, model.width)).astype(np.float32)
    found = [
        Vector(
            content_key("kept", name, layer),
            model.model_id,
            None,
            "made",
            layer,
            7.0,
            direction=direction,
            architecture="llama",
        )
        for layer, direction in zip((1, 2), drawn, strict=True)
    ]
    saving.save(store, found, "calm")
    saving.tag(store, found[:1], "gentle")
    return found


PATHS = (  # what a model's name may be where it lies in a folder, and what others are told
    *(("{0}/models/a model", "a model"), ("{0}/models/tiny/", "tiny"), ("~/tiny", "tiny"), ("./tiny", "tiny")),
    *(("made-up", "made-up"), ("..", "llama"), ("{0}/gone", "gone")),
)


@pytest.mark.parametrize(("path", "called"), PATHS)
def test_a_folders_path_is_in_no_pack_and_in_no_file_of_vectors(
    path: str, called: str, store: Store, tmp_path: Path
) -> None:
    vectors, out = kept(store, path.format(tmp_path)), tmp_path / "pack"
    pack(store, vectors, out)
    about = json.loads((out / "pack.json").read_text())
    assert (about["model"], about["architecture"], about["model_id"]) == (called, "llama", vectors[0].model_id)
    said = (out / "card.md").read_text()
    assert f"Steering vectors of `{called}`" in said
    assert "steer generate MODEL_FOLDER" in said
    for form in (".safetensors", ".gguf", ".npz", ".npy", ".pt", ".svec"):
        export_vectors(store, vectors[:1], tmp_path / "files" / f"vector{form}")
    for file in (*out.iterdir(), *(tmp_path / "files").iterdir()):
        assert str(tmp_path).encode() not in file.read_bytes(), file.name
    other = Store(tmp_path / "other")
    assert [v.vector_id for v in unpack(other, str(out))] == [v.vector_id for v in vectors]
    assert other.rows("SELECT name FROM raw.models") == [{"name": called}]
    assert unpack(store, str(out), name="again")
    assert store.rows("SELECT name FROM raw.models") == [{"name": path.format(tmp_path)}]


def test_a_store_that_met_the_model_by_its_path_is_not_told_that_it_waits(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pack(store, kept(store, f"{tmp_path}/tiny"), tmp_path / "pack")
    unpack(store, str(tmp_path / "pack"))
    assert "has not met" not in caplog.text
    unpack(Store(tmp_path / "other"), str(tmp_path / "pack"))
    assert "has not met tiny yet" in caplog.text


def head(folder: Path) -> dict[str, object]:
    """The hub's metadata of a card."""
    return yaml.safe_load((folder / "README.md").read_text().split("---")[1])


def test_a_pack_comes_back_bit_for_bit(store: Store, tmp_path: Path) -> None:
    vectors = kept(store)
    assert pack(store, vectors, tmp_path / "pack", licence="cc-by-4.0") == "calm"
    other = Store(tmp_path / "other")
    found = unpack(other, str(tmp_path / "pack"))
    assert [v.vector_id for v in found] == [v.vector_id for v in vectors]
    for one, back in zip(vectors, library.find_all(other, "calm"), strict=True):
        assert back.direction.tobytes() == one.direction.tobytes()
        assert (back.layer, back.residual_norm) == (one.layer, one.residual_norm)
    assert other.rows("SELECT tags FROM vectors WHERE layer = 1") == [{"tags": ["gentle"]}]
    unpack(other, str(tmp_path / "pack"), name="serene")
    assert len(library.find_all(other, "serene")) == 2
    assert head(tmp_path / "pack") == {"tags": ["control-vector", "steerflow"], "license": "cc-by-4.0"}
    said = (tmp_path / "pack" / "card.md").read_text()
    assert said == (tmp_path / "pack" / "README.md").read_text()
    assert "have not been measured" in said
    assert "hidden_states[N + 1]" in said


def test_a_hub_models_pack_names_it_and_what_is_no_name_is_refused(store: Store, tmp_path: Path) -> None:
    vectors = kept(store, "people/tiny")
    pack(store, vectors, tmp_path / "pack")
    assert head(tmp_path / "pack")["base_model"] == "people/tiny"
    for wrong in ("a b", "123", "abcdef12", "../up"):
        with pytest.raises(VectorError, match="cannot be what a pack calls its vectors"):
            pack(store, vectors, tmp_path / "again", wrong)
    with pytest.raises(VectorError, match="one model and one concept"):
        pack(store, [*vectors, *kept(store, "another")], tmp_path / "again")
    with pytest.raises(VectorFileError, match="is there already"):
        pack(store, vectors, tmp_path / "pack")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "\ud800", "taken/below"])
def test_a_name_that_no_folder_can_have_is_refused(name: str, store: Store, tiny: Model, tmp_path: Path) -> None:
    vectors = kept(store)
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(VectorFileError, match="name another folder"):
        pack(store, vectors, f"{tmp_path}/{name}")
    with pytest.raises(OutputError, match="name another folder"), staged(Path(f"{tmp_path}/{name}"), tiny.folder):
        pass


def about(folder: Path, **changes: object) -> None:
    """Change what a pack says of itself."""
    file = folder / "pack.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def changed(name: str) -> Callable[[Path], None]:
    """A byte of a file that is another one."""

    def change(folder: Path) -> None:
        found = bytearray((folder / name).read_bytes())
        found[-1] ^= 1
        (folder / name).write_bytes(found)

    return change


def renamed_model(folder: Path) -> None:
    about(folder, model_id="f" * 20)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (changed("vectors.safetensors"), "vectors.safetensors was changed"),
        (changed("card.md"), "card.md was changed"),
        (lambda f: (f / "vectors.safetensors").unlink(), "vectors.safetensors"),
        (lambda f: (f / "pack.json").write_text("{"), "cannot be read as a pack's"),
        (lambda f: (f / "pack.json").write_text("[" * 100_000), "cannot be read as a pack's"),
        (lambda f: about(f, files={"../../etc/passwd": "0" * 64, "vectors.safetensors": "0"}), "no file of its own"),
        (lambda f: about(f, files={"card.md": file_sha256(f / "card.md")}), "lists no vectors.safetensors"),
        (lambda f: about(f, format="zip"), "of the format"),
        (lambda f: about(f, format_version=2), "later steerflow"),
        (renamed_model, "not of the model that pack.json names"),
        (lambda f: (f / "pack.json").unlink(), "pack.json"),
    ],
)
def test_what_was_changed_is_refused(harm: Callable[[Path], None], said: str, store: Store, tmp_path: Path) -> None:
    pack(store, kept(store), tmp_path / "pack")
    harm(tmp_path / "pack")
    other = Store(tmp_path / "other")
    with pytest.raises(VectorFileError, match=said):
        unpack(other, str(tmp_path / "pack"))
    assert not other.rows("SELECT 1 FROM raw.vectors")


def test_a_fault_in_what_a_pack_says_is_told_with_its_key(store: Store, tmp_path: Path) -> None:
    pack(store, kept(store), tmp_path / "pack")
    about(tmp_path / "pack", licence=3)
    with pytest.raises(VectorFileError, match=r"pack\.json has 1 fault:\n  licence: .*got 3"):
        unpack(Store(tmp_path / "other"), str(tmp_path / "pack"))
    (tmp_path / "pack" / "pack.json").write_text("[]")
    with pytest.raises(VectorFileError, match=r"pack\.json must be a mapping"):
        unpack(Store(tmp_path / "other"), str(tmp_path / "pack"))


def test_vectors_that_were_never_saved_are_packed_under_their_method(store: Store, tmp_path: Path) -> None:
    unsaved = [dataclasses.replace(vector, vector_id=f"{i:020x}") for i, vector in enumerate(kept(store))]
    assert pack(store, unsaved, tmp_path / "pack") == "made"
    with pytest.raises(VectorError, match="does not know its model"):
        pack(Store(tmp_path / "other"), unsaved, tmp_path / "again")


def test_what_was_recommended_of_more_vectors_than_are_packed_is_not_how_to_use_them(store: Store) -> None:
    both = [dataclasses.replace(vector, concept_id="c" * 20) for vector in kept(store)]
    ids = [vector.vector_id for vector in both]
    row = dict.fromkeys(TABLES["recommendations"].schema.names) | {
        "recommendation_id": "together",
        "model_id": both[0].model_id,
        "concept_id": "c" * 20,
        "vector_ids": ids,
        "intervention": " + ".join(f"30%*{vector_id}" for vector_id in ids),
    }
    store.append("recommendations", [row])
    assert evidence(store, both[:1], "made-up").chosen is None
    whole = evidence(store, both, "made-up").chosen
    assert whole is not None
    assert whole["intervention"] == row["intervention"]


def test_nothing_in_a_pack_is_run(store: Store, tmp_path: Path) -> None:
    pack(store, kept(store), tmp_path / "pack")
    ran = tmp_path / "ran"
    for name in ("steered_model.py", "__init__.py", "conftest.py"):
        (tmp_path / "pack" / name).write_text(f"open({str(ran)!r}, 'w')")
    unpack(Store(tmp_path / "other"), str(tmp_path / "pack"))
    assert not ran.exists()


def test_another_model_of_that_name_is_told(store: Store, tiny: Model, tmp_path: Path) -> None:
    pack(store, kept(store), tmp_path / "pack")
    other = Store(tmp_path / "other")
    other.append("models", [dataclasses.asdict(identity(model_id="d" * 20))])
    with pytest.raises(VectorMismatch, match="this store's made-up is dddd"):
        unpack(other, str(tmp_path / "pack"))
    with pytest.raises(VectorMismatch, match="not for"):
        unpack(other, str(tmp_path / "pack"), tiny)
    assert not other.rows("SELECT 1 FROM raw.vectors")


def test_the_card_has_what_a_run_measured(tiny_folder: Path, concept: Concept, store: Store, tmp_path: Path) -> None:
    file = tmp_path / "loud.yaml"
    file.write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    grid = {"layers": [1], "doses": [0.5], "prompts": 1, "max_tokens": 3}
    scores = quick.SCORES | {"side_effects": ["sentiment"]}
    spec = Spec.model_validate(
        {"models": [str(tiny_folder)], "concepts": [str(file)], "generations": grid, "scores": scores}
    )
    run(spec, store)
    chosen = store.rows("SELECT * FROM recommendations")[0]
    runner = CliRunner()
    done = runner.invoke(
        app, ["pack", "loud/mean_difference/1", "--out", str(tmp_path / "pack"), "--store", str(store.root)]
    )
    assert done.exit_code == 0, done.exception
    for packed in (tmp_path / "pack").iterdir():
        assert str(tiny_folder.parent).encode() not in packed.read_bytes(), packed.name
    said = (tmp_path / "pack" / "card.md").read_text()
    assert chosen["verdict"] in said
    assert chosen["intervention"] in said  # names the vectors by their keys, which hold wherever the pack goes
    assert f"{chosen['effect']:.3f}" in said
    assert said.count("| shuffled |") >= 1
    assert said.count("| random |") >= 1
    (aside,) = store.rows("SELECT * FROM side_effects WHERE control IS NULL AND measured = 'sentiment'")
    assert f"| sentiment | {aside['effect']:.3f} |" in said
    assert (tmp_path / "pack" / "chart.png").read_bytes().startswith(b"\x89PNG")
    done = runner.invoke(app, ["unpack", str(tmp_path / "pack"), "--store", str(tmp_path / "other")])
    assert done.exit_code == 0, done.exception
    assert library.find(Store(tmp_path / "other"), "loud-mean_difference").layer == 1


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on loopback, and an empty cache on this machine."""
    with hub_server() as served:
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        address = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield served


def test_the_hub_gives_a_pack_once(hub: Hub, store: Store, tmp_path: Path) -> None:
    vectors = kept(store)
    pack(store, vectors, tmp_path / "pack")
    (tmp_path / "pack" / "evil.py").write_text("raise SystemExit")
    (tmp_path / "pack" / "huge.bin").write_bytes(b"0" * 10_000)
    repository = hub.repositories["people/calm"] = Repository()
    commit = repository.commit(tmp_path / "pack")
    found = unpack(Store(tmp_path / "other"), "hf:people/calm")
    assert [v.vector_id for v in found] == [v.vector_id for v in vectors]
    asked = " ".join(path for _, path in hub.requests)
    assert "evil.py" not in asked
    assert "huge.bin" not in asked
    assert unpack(Store(tmp_path / "third"), f"hf:people/calm@{commit}")
    with pytest.raises(ModelNotFound):
        unpack(Store(tmp_path / "other"), "hf:people/nothing")
    with pytest.raises(VectorFileError, match="names no pack of the hub"):
        unpack(Store(tmp_path / "other"), "hf:nobody")
    repository.commit(tmp_path / "pack", **{"card.md": b"another card"})
    with pytest.raises(VectorFileError, match=r"card\.md was changed"):
        unpack(Store(tmp_path / "other"), "hf:people/calm")


def test_a_pack_that_is_on_disk_needs_no_hub(
    hub: Hub, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack(store, kept(store), tmp_path / "pack")
    hub.repositories["people/calm"] = Repository()
    hub.repositories["people/calm"].commit(tmp_path / "pack")
    unpack(Store(tmp_path / "other"), "hf:people/calm")
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert unpack(Store(tmp_path / "third"), "hf:people/calm")
    with pytest.raises(HubUnreachable):
        unpack(Store(tmp_path / "third"), "hf:people/never-seen")
