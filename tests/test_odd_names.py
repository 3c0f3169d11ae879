"""Names and paths that no file should have, in every place that takes one: one error each, at once, no traceback."""

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from steering_core.cli.main import app
from steering_core.concepts import load_concept
from steering_core.exports.files import FORMS
from steering_core.foundation.errors import (
    ConceptError,
    ModelNotFound,
    ModelUnsupported,
    PromptError,
    SpecError,
    SteerflowError,
    VectorError,
)
from steering_core.foundation.user_files import file_bytes, file_text
from steering_core.models.model import model_folder
from steering_core.spec_files import load_spec
from steering_core.store import Store
from steering_core.vectors import saving
from steering_core.vectors.methods import method_name
from tests.stored import identity, vector
from tests.verbs import import_verbs

SECONDS = 3.0
NAMES = ("long", "longer", "zero byte", "nobody", "pipe", "folder", "device", "loop", "absent", "proc", "broken text")


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    import_verbs()


@pytest.fixture(params=NAMES)
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """A function from an ending (.yaml) to one odd name."""

    def name(ending: str) -> str:
        path = tmp_path / f"odd{ending}"
        given: dict[str, Callable[[], str]] = {
            "long": lambda: f"{'x' * 300}{ending}",
            "longer": lambda: f"{tmp_path}/{'y/' * 5_000}z{ending}",
            "zero byte": lambda: f"{path}\0{ending}",
            "nobody": lambda: f"~nobody-of-that-name/x{ending}",
            "absent": lambda: str(path),
            "device": lambda: _made(path, lambda p: p.symlink_to("/dev/zero")),
            "proc": lambda: _made(path, lambda p: p.symlink_to("/proc/self/mem")),
            "pipe": lambda: _made(path, os.mkfifo),
            "folder": lambda: _made(path, Path.mkdir),
            "loop": lambda: _made(path, lambda p: p.symlink_to(p)),
            "broken text": lambda: f"{path}\udcff{ending}",
        }
        return given[request.param]()

    return name


def _made(path: Path, make: Callable[[Path], object]) -> str:
    if not os.path.lexists(path):
        make(path)
    return str(path)


PLACES: dict[str, tuple[str, Callable[[str], object], type[SteerflowError]]] = {
    "a spec": (".yaml", load_spec, SpecError),
    "a spec's name": ("", load_spec, SpecError),
    "a concept": (".yaml", load_concept, ConceptError),
    "a concept of rows": (".jsonl", load_concept, ConceptError),
    "a concept's name": ("", load_concept, ConceptError),
    "a model": ("", model_folder, (ModelNotFound, ModelUnsupported)),
    "a method's file": (".py", lambda name: method_name(f"{name}:f"), VectorError),
    **{
        f"a vector file {ending}": (ending, lambda name, read=form.read: read(Path(name)), VectorError)
        for ending, form in FORMS.items()
    },
    "prompts": (".txt", lambda name: file_text(Path(name), PromptError, 1000), PromptError),
}


@pytest.mark.parametrize("place", PLACES)
def test_an_odd_name_is_one_error_at_once(odd: Callable[[str], str], place: str) -> None:
    ending, read, error = PLACES[place]
    begun = time.perf_counter()
    with pytest.raises(error) as fault:
        read(odd(ending))
    assert time.perf_counter() - begun < SECONDS
    assert len(str(fault.value)) < 2_000
    str(fault.value).encode()  # can be printed


VERBS: dict[str, tuple[str, Callable[[str], list[str]]]] = {
    "run": (".yaml", lambda name: ["run", name]),
    "plan": (".yaml", lambda name: ["plan", name]),
    "calibrate": (".yaml", lambda name: ["calibrate", name]),
    "sweep-layers": (".yaml", lambda name: ["sweep-layers", name]),
    "concepts show": (".yaml", lambda name: ["concepts", "show", name]),
    "concepts import": (".csv", lambda name: ["concepts", "import", name]),
    "concepts import --items": (".csv", lambda name: ["concepts", "import", "sentiment", "--items", name]),
    "concepts import --prompts": (".txt", lambda name: ["concepts", "import", "sentiment", "--prompts", name]),
    "generate": ("", lambda name: ["generate", name, "Hi"]),
    "chat": ("", lambda name: ["chat", name]),
    "extract": ("", lambda name: ["extract", name, "sentiment"]),
    "vectors import": (".pt", lambda name: ["vectors", "import", name]),
    "vectors unpack": ("", lambda name: ["vectors", "unpack", name]),
    "vectors derive": (".yaml", lambda name: ["vectors", "derive", "smollm2-135m", name]),
    "vectors discover": (".txt", lambda name: ["vectors", "discover", "smollm2-135m", name, "--layer", "1"]),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_refuses_an_odd_name(
    odd: Callable[[str], str], verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERFLOW_STORE", str(tmp_path / "store"))
    ending, arguments = VERBS[verb]
    begun = time.perf_counter()
    found = CliRunner().invoke(app, arguments(odd(ending)))
    assert refused(found), found.exception
    assert time.perf_counter() - begun < SECONDS


OUTPUTS: dict[str, tuple[str, Callable[[str], list[str]]]] = {
    "report": (".html", lambda name: ["report", "-o", name]),
    "store export": (".csv", lambda name: ["store", "export", "SELECT 1 AS one", name]),
    "vectors export": (".safetensors", lambda name: ["vectors", "export", "planted", "--to", name]),
    "concepts new": (".yaml", lambda name: ["concepts", "new", "brave", "--out", name]),
}
WRITABLE = ("absent", "nobody")  # for a file that is to be written, names like any other


@pytest.mark.parametrize("verb", OUTPUTS)
def test_every_verb_that_writes_a_file_refuses_an_odd_name(
    odd: Callable[[str], str],
    request: pytest.FixtureRequest,
    verb: str,
    store: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEERFLOW_STORE", str(store.root))
    store.append("models", [dataclasses.asdict(identity())])
    saving.save(store, [vector()], "planted")
    ending, arguments = OUTPUTS[verb]
    name = odd(ending)
    begun = time.perf_counter()
    found = CliRunner().invoke(app, arguments(name))
    assert time.perf_counter() - begun < SECONDS
    if request.node.callspec.params["odd"] in WRITABLE:
        assert (found.exception, Path(name).stat().st_size > 0) == (None, True)
    else:
        assert refused(found), found.exception
    assert not list(tmp_path.rglob(f".{os.getpid()}-*"))


@pytest.mark.parametrize("verb", [["sql", "SELECT 1"], ["store", "info"], ["report"], ["runs"]], ids=" ".join)
def test_every_verb_refuses_an_odd_address_of_a_store(odd: Callable[[str], str], verb: list[str]) -> None:
    begun = time.perf_counter()
    for name in (odd(""), f"foo://{odd('')}", f"file://{odd('')}"):
        found = CliRunner().invoke(app, [*verb, "--store", name])
        assert refused(found), (name, found.exception)
        str(found.exception).encode()
    assert time.perf_counter() - begun < SECONDS


def refused(found: Result) -> bool:
    """Whether a verb ended with one error of ours, which `main` prints, or with typer's own for an option."""
    return isinstance(found.exception, SteerflowError) or found.exit_code == 2


def test_a_file_that_grows_past_its_size_is_cut_off(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="larger than 10 bytes"):
        file_bytes(Path("/proc/self/status"), SpecError, 10)
    (tmp_path / "eleven").write_bytes(b"x" * 11)
    assert file_bytes(tmp_path / "eleven", SpecError, 11) == b"x" * 11
    with pytest.raises(SpecError, match="larger than 10 bytes"):
        file_bytes(tmp_path / "eleven", SpecError, 10)
