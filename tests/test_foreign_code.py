"""A model's own Python is never run unless its folder is allowed: planted files that would write a marker."""

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.discover_vectors import chosen_spec
from steering_core.cli.main import app
from steering_core.cli.shared import specs_in
from steering_core.concepts import Concept
from steering_core.foundation.errors import ModelNotFound, ModelRunsCode, ModelUnsupported, SpecError
from steering_core.models import Model, code, open_model
from steering_core.pipeline import stages
from steering_core.runs import Run
from steering_core.spec_files import load_spec
from steering_core.store import Store
from tests import quick
from tests.explorer import copied, serving
from tests.tiny import save_tiny_model


class Writes:
    """Writes the marker where it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.write_text, (self.marker, "run")


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No folder is allowed, code that transformers copies stays in the test's folder, and somebody says yes."""
    monkeypatch.setattr(code, "_allowed", set())
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", lambda *_: "y")


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


def writing(marker: Path, rest: str) -> str:
    return f"from pathlib import Path\nPath({str(marker)!r}).write_text('run')\n{rest}\n"


def changed(file: Path, **entries: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


def network_code(folder: Path, marker: Path) -> Path:
    """A folder whose config.json names a file that builds its network."""
    save_tiny_model(folder)
    (folder / "mind.py").write_text(writing(marker, "from mlx_lm.models.llama import Model, ModelArgs"))
    changed(folder / "config.json", model_file="mind.py")
    return folder


def tokenizer_code(folder: Path, marker: Path) -> Path:
    """A folder whose tokenizer is a class of its own, which nothing else can take the place of."""
    save_tiny_model(folder)
    (folder / "tokenizer.json").rename(folder / "words.json")
    mine = "from transformers import PreTrainedTokenizerFast\nclass Mine(PreTrainedTokenizerFast):\n"
    mine += f"    def __init__(self, **k): super().__init__(**k | {{'tokenizer_file': {str(folder / 'words.json')!r}}})"
    (folder / "words.py").write_text(writing(marker, mine))
    changed(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": [None, "words.Mine"]}, tokenizer_class="Mine")
    return folder


REFUSED = {network_code: r"only by running .*mind\.py, as its config\.json \(model_file\) says.*--allow-code"}
REFUSED[tokenizer_code] = r"only by running .*words\.py, as its tokenizer_config\.json \(auto_map\) says.*--allow-code"
Plant = Callable[[Path, Path], Path]


@pytest.fixture(params=REFUSED, ids=lambda plant: plant.__name__)
def plant(request: pytest.FixtureRequest) -> Plant:
    """What a folder holds that would run."""
    planted: Plant = request.param
    return planted


@pytest.fixture
def folder(plant: Plant, tmp_path: Path, marker: Path) -> Iterator[Path]:
    """A folder that would run Python of its own; afterwards it has not."""
    yield plant(tmp_path / "model", marker)
    assert not marker.exists()


def spec_file(folder: Path, model: Path, concept: Concept, **more: object) -> Path:
    saved = concept.model_dump(mode="json", exclude_none=True)
    (folder / "loud.yaml").write_text(json.dumps(saved))
    grid = {"layers": [1], "doses": [0.3], "prompts": 1, "samples": 1, "max_tokens": 4}
    spec = {"models": [str(model)], "concepts": [str(folder / "loud.yaml")], "generations": grid, **more}
    (folder / "spec.yaml").write_text(json.dumps(spec | quick.SPEC))
    return folder / "spec.yaml"


def steer(*words: object) -> None:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception:
        raise done.exception


def test_opening_does_not_run_it(folder: Path, plant: Plant) -> None:
    with pytest.raises(ModelRunsCode, match=REFUSED[plant]) as told:
        open_model(str(folder))
    assert str(folder) in str(told.value)
    assert "trust_remote_code" not in str(told.value)


def test_the_command_line_does_not_run_it(folder: Path, plant: Plant, tmp_path: Path, concept: Concept) -> None:
    spec = spec_file(tmp_path, folder, concept)
    store = ("--store", tmp_path / "store")
    for words in (
        ("run", spec, *store),
        ("plan", spec, *store),
        ("generate", folder, "Hello", *store),
        ("chat", folder, *store),
        ("extract", folder, tmp_path / "loud.yaml", *store),
        ("concepts", "lint", tmp_path / "loud.yaml", "--model", folder),
        ("calibrate", spec, *store),
    ):
        with pytest.raises(ModelRunsCode, match=REFUSED[plant]):
            steer(*words)


def test_the_explorer_does_not_run_it(folder: Path, plant: Plant, tmp_path: Path, agree_run: Path) -> None:
    store = copied(agree_run, tmp_path)
    with serving(store, models=[str(folder)]) as client:
        assert str(folder) in client.get("/api/models").text
        asked = {"model": str(folder), "messages": [{"role": "user", "content": "Hi"}]}
        answer = client.post("/v1/chat/completions", json=asked)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ModelRunsCode")
        assert client.post("/v1/chat/completions", json=asked | {"allow_code": True}).status_code >= 400


def test_a_flow_does_not_run_what_its_spec_allows(folder: Path, plant: Plant, tmp_path: Path, concept: Concept) -> None:
    spec = spec_file(tmp_path, folder, concept, allow_code=[str(folder)])
    run = Run(chosen_spec(str(spec), None, None), Store(tmp_path / "store"))
    with pytest.raises(ModelRunsCode, match=REFUSED[plant]):
        stages.load_model(run, str(folder))


def test_reading_a_spec_allows_nothing(folder: Path, tmp_path: Path, concept: Concept) -> None:
    load_spec(spec_file(tmp_path, folder, concept, allow_code=[str(folder)]))
    with pytest.raises(ModelRunsCode):
        open_model(str(folder))


def test_another_folder_is_not_allowed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(ModelRunsCode):
        steer("--allow-code", tmp_path / "other", "generate", folder, "Hello")


def test_a_spec_allows_its_own_models_only(tmp_path: Path, tiny_folder: Path, concept: Concept) -> None:
    spec = spec_file(tmp_path, tiny_folder, concept, allow_code=["/somewhere"])
    with pytest.raises(SpecError, match="allow_code names /somewhere, which is not among models"):
        load_spec(spec)


def test_a_name_of_the_hub_cannot_be_allowed() -> None:
    with pytest.raises(ModelNotFound, match=r"no folder 'people/tiny' whose code could be allowed.*hf download"):
        steer("--allow-code", "people/tiny", "generate", "people/tiny", "Hello")


def test_what_a_spec_allows_does_not_change_its_key(tmp_path: Path, tiny_folder: Path, concept: Concept) -> None:
    plain = load_spec(spec_file(tmp_path, tiny_folder, concept))
    allowing = load_spec(spec_file(tmp_path, tiny_folder, concept, allow_code=[str(tiny_folder)]))
    assert allowing.key == plain.key


def test_allowed_on_the_command_line_it_runs(plant: Plant, tmp_path: Path, marker: Path) -> None:
    folder = plant(tmp_path / "model", marker)
    steer("--allow-code", folder, "generate", folder, "Hello", "--max-tokens", 2)
    assert marker.read_text() == "run"


def test_allowed_in_a_spec_it_runs(plant: Plant, tmp_path: Path, marker: Path, concept: Concept) -> None:
    folder = plant(tmp_path / "model", marker)
    specs_in.allowed_spec(spec_file(tmp_path, folder, concept, allow_code=[str(folder)]))
    with open_model(str(folder)) as model:
        assert model.identity.n_layers == 4
        assert model.abilities.mixed is (plant is tokenizer_code)  # nothing is known of a network of its own
    assert marker.read_text() == "run"


def test_allowed_code_is_part_of_who_a_model_is(tmp_path: Path, marker: Path) -> None:
    folder = network_code(tmp_path / "model", marker)
    code.allow_code(str(folder))
    before = Model(str(folder)).identity.model_id
    (folder / "mind.py").write_text((folder / "mind.py").read_text() + "# changed\n")
    assert Model(str(folder)).identity.model_id != before


def unneeded_tokenizer_class(folder: Path, marker: Path) -> None:
    (folder / "words.py").write_text(writing(marker, "class Mine: pass"))
    changed(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["words.Mine", "words.Mine"]})


def another_repositorys_class(folder: Path, marker: Path) -> None:
    changed(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["a/b--words.Mine", None]})


def configuration_class(folder: Path, marker: Path) -> None:
    (folder / "mind.py").write_text(writing(marker, "class Mine: pass"))
    named = {"AutoConfig": "mind.Mine", "AutoModelForCausalLM": "mind.Mine", "AutoTokenizer": ["mind.Mine", None]}
    changed(folder / "config.json", auto_map=named)


def unknown_configuration_class(folder: Path, marker: Path) -> None:
    """mlx-lm has the architecture, transformers has not."""
    configuration_class(folder, marker)
    changed(folder / "config.json", model_type="xverse")


def pickles(folder: Path, marker: Path) -> None:
    for name in ("pytorch_model.bin", "model.pt", "tokenizer.pkl", "training_args.bin", "vocab.pkl"):
        (folder / name).write_bytes(pickle.dumps(Writes(marker)))


def pickle_as_vocabulary(folder: Path, marker: Path) -> None:
    pickles(folder, marker)
    changed(folder / "tokenizer_config.json", vocab_file="vocab.pkl", pretrained_vocab_file="vocab.pkl")


def code_beside(folder: Path, marker: Path) -> None:
    for name in ("conftest.py", "__init__.py", "llama.py", "tokenization_llama.py", "sitecustomize.py"):
        (folder / name).write_text(writing(marker, ""))


@pytest.mark.parametrize(
    "put",
    [
        unneeded_tokenizer_class,
        another_repositorys_class,
        configuration_class,
        unknown_configuration_class,
        pickles,
        pickle_as_vocabulary,
        code_beside,
    ],
    ids=lambda put: put.__name__,
)
def test_what_is_not_needed_does_not_run_and_does_not_hinder(
    tmp_path: Path, marker: Path, put: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny_model(tmp_path / "model")
    put(folder, marker)
    monkeypatch.chdir(folder)
    with open_model(str(folder)) as model:
        assert model.tokenizer.encode("ab")
    assert not marker.exists()


def test_a_pickle_in_the_place_of_weights_is_not_opened(tmp_path: Path, marker: Path) -> None:
    folder = save_tiny_model(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    pickles(folder, marker)
    with pytest.raises(ModelUnsupported, match="pickles"):
        open_model(str(folder))
    assert not marker.exists()


def test_the_pickle_would_have_written(tmp_path: Path, marker: Path) -> None:
    pickles(tmp_path, marker)
    pickle.loads((tmp_path / "vocab.pkl").read_bytes())
    assert marker.exists()
