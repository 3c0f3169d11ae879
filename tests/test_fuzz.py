"""Specs, concepts, expressions, vectors and options that nobody should write: exit 0 to 2, one paragraph, no half row.

500 inputs and more, drawn from one seed. Most run in this process, through the same code as `steer`; some in another.
"""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from steering_core.cli.main import app
from steering_core.exports.files import FORMS
from steering_core.foundation.errors import SteerflowError
from steering_core.store import Store
from steering_core.store.tables import TABLES
from tests.mutants import mutants, whole
from tests.verbs import import_verbs

SEED = 2207
EACH = 110  # inputs of each of the five kinds
SECONDS = 10.0
STEER = Path(sys.executable).with_name("steer")
ODD: tuple[Any, ...] = (
    *(True, False, None, "", " ", 0, -1, 1e-320, 1e30, -1e308, float("inf"), float("nan"), 2**63, 10**40),
    *([], {}, [True], [[]], [None], ["a"] * 2_000, [0.5] * 101, {"a": {"b": {}}}, "x" * 5_000, "a\0b", "~nobody/x"),
    *(
        "../../x",
        "/dev/zero",
        "/",
        "hf:",
        "hf:a:b:c:d",
        "all",
        "auto",
        "1e-3",
        "\u202e",
        "{text} {}",
        "%s",
        "!!python/x",
    ),
)
SPEC: dict[str, Any] = {
    "name": "run",
    "models": ["no-such-model"],
    "concepts": ["sentiment"],
    "activations": {"layers": [1], "position": "last"},
    "vectors": {"methods": ["mean_difference"], "controls": 1, "quality_draws": 0},
    "generations": {"layers": [1], "doses": [0.5], "prompts": 1, "samples": 1, "max_tokens": 2, "temperature": 0.5},
    "scores": {"metrics": ["propensity"], "items": 2, "neutral": 2, "bootstrap": 100, "seed": 1},
}
CONCEPT: dict[str, Any] = {
    "name": "mood",
    "chat": True,
    "pairs": [{"prompt": "Well?", "positive": "good", "negative": "bad"}],
    "prompts": ["Hello"],
    "items": [{"prompt": "And?", "matching": "fine", "not_matching": "ill"}],
    "words": {"positive": ["good"], "negative": ["bad"]},
    "card": {"what": "mood", "accepted": {"length": "why"}},
}
EXPRESSION = "0.6*formality + 30%*french/mean_difference/14 @generation; clamp(mood[1..3], 4) @when(x > 2) @first(3)"
OPTIONS: tuple[str, ...] = (
    *("--alpha", "--dose", "--steer", "--phase", "--max-tokens", "--temperature", "--seed", "--vector", "--system"),
    *("--stop", "--format", "--store", "--stream", "--raw", "--compare", "--same-family", "--no-such-option"),
)


def changed(value: Any, draw: random.Random) -> Any:
    """A copy of nested data with one place exchanged, left out, doubled or named otherwise."""
    if isinstance(value, dict) and value and draw.random() < 0.85:
        key, how = draw.choice(list(value)), draw.random()
        if how < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if how < 0.2:
            return {**value, draw.choice((f"{key}x", "zz", "", "extra")): draw.choice(ODD)}
        return {**value, key: changed(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.5:
        return [*value[1:], changed(value[0], draw), *value[: draw.randrange(2)]]
    return draw.choice(ODD)


def bent(text: str, draw: random.Random) -> str:
    return next(mutants(text.encode(), 1, draw.randrange(2**32))).decode("utf-8", "replace").replace("\0", "0")


Arguments = Callable[[random.Random, Path], list[str]]


def _spec(draw: random.Random, folder: Path) -> list[str]:
    text = yaml.safe_dump(changed(SPEC, draw), allow_unicode=True)
    path = folder / "spec.yaml"
    path.write_text(bent(text, draw) if draw.random() < 0.3 else text)
    return ["run", str(path)]


def _concept(draw: random.Random, folder: Path) -> list[str]:
    given = changed(CONCEPT, draw)
    text = yaml.safe_dump(given) if draw.random() < 0.5 else json.dumps(given)
    path = folder / draw.choice(("concept.yaml", "concept.json", "concept"))
    path.write_text(bent(text, draw) if draw.random() < 0.3 else text)
    return draw.choice((["concepts", "show", str(path)], ["concepts", "lint", str(path)]))


def _expression(draw: random.Random, folder: Path) -> list[str]:
    return ["generate", "no-such-model", "Hi", f"--steer={bent(EXPRESSION, draw)}"]


def _options(draw: random.Random, folder: Path) -> list[str]:
    given = [draw.choice(("no-such-model", "~nobody/x", "/dev/zero", "", "y" * 5_000)), "Hi"]
    for option in draw.sample(OPTIONS, draw.randrange(1, 4)):
        value = str(draw.choice(ODD)).replace("\0", "0")
        given += [option] if draw.random() < 0.15 else [f"{option}={value}"]
    return [draw.choice(("generate", "chat")), *given]


def _vectors(draw: random.Random, folder: Path) -> list[str]:
    ending = draw.choice(sorted(FORMS))
    path = folder / f"vectors{ending}"
    FORMS[ending].write(path, whole(ending))
    path.write_bytes(next(mutants(path.read_bytes(), 1, draw.randrange(2**32))))
    return ["vectors", "import", str(path)]


KINDS: dict[str, Arguments] = {
    "specs": _spec,
    "concepts": _concept,
    "expressions": _expression,
    "options": _options,
    "vectors": _vectors,
}


def inputs(kind: str, folder: Path, n: int) -> Iterator[list[str]]:
    draw = random.Random(f"{SEED} {kind}")
    for _ in range(n):
        yield KINDS[kind](draw, folder)


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    import_verbs()


@pytest.mark.parametrize("kind", KINDS)
def test_in_process(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STEERFLOW_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    failed = 0
    for arguments in inputs(kind, tmp_path, EACH):
        begun = time.perf_counter()
        found = CliRunner().invoke(app, arguments)
        assert time.perf_counter() - begun < SECONDS, arguments
        foreseen = isinstance(found.exception, SystemExit | SteerflowError | None)
        assert foreseen, f"{arguments} gives {found.exception!r}"
        assert found.exit_code in (0, 1, 2), arguments
        failed += found.exit_code != 0
    assert failed > EACH / 4
    if (tmp_path / "store").exists():
        assert half_rows(Store(tmp_path / "store")) == []


def half_rows(store: Store) -> list[str]:
    """Tables of results that hold rows, though nothing here can have a result."""
    results = ("generations", "measurements", "scores", "recommendations", "activations")
    return [name for name in results if name in TABLES and store.rows(f'SELECT 1 FROM raw."{name}" LIMIT 1')]


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_process_of_its_own(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEERFLOW_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for arguments in inputs(kind, tmp_path, 1):
        done = subprocess.run(
            [STEER, *arguments], capture_output=True, stdin=subprocess.DEVNULL, timeout=60, check=False, cwd=tmp_path
        )
        said = done.stderr.decode()
        assert done.returncode in (0, 1, 2), said
        assert "Traceback" not in said
        assert "leaked" not in said
