"""Every option and argument of every verb, given what it should not be given: refused at once, in one paragraph.

The verbs' own tree is walked, so that a new option is tried as soon as there is one. Each gets one odd value here, and
all of them in the slow test.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from steering_core.cli.main import MAY_BE_EMPTY, app
from steering_core.cli.shared.misuse import UsageError
from steering_core.foundation.errors import SteerflowError
from tests import quick
from tests.explorer import copied
from tests.verbs import import_verbs

STEER = Path(sys.executable).with_name("steer")
SECONDS = 10.0
ODD = {
    **{"empty": "", "blank": " ", "long": "x" * 100_000, "nobody": "~nobody/x", "negative": "-1", "nan": "nan"},
    **{"huge": "1e308", "endless": "-inf", "no text": "\udcff\udcfe", "lines": "a\tb\n", "markup": "[/bold]"},
    **{"clear": "\x1b[2J", "up": "../../..", "device": "/dev/zero", "format": "%s%n{x}", "pipe": "pipe"},
    **{"folder": "folder", "address": "http://127.0.0.1:9/x", "hub": "hf:a/b", "quote": "a'; DROP TABLE x"},
}
GIVEN = {  # for what a verb cannot do without
    **{"model": "no-such-model", "spec": "spec.yaml", "prompts": "Hi", "concept": "loud.yaml", "what": "loud.yaml"},
    **{"source": "loud.yaml", "text": "agree", "texts": "agree", "query": "SELECT 1", "path": "x.safetensors"},
    **{"to": "out.svg", "out": "out", "steer": "agree", "vectors": "agree", "probes": "agree", "data": "rows.jsonl"},
}
WITHOUT_IT_MUCH_IS_DONE = ("spec", "names", "model")  # verbs that go by what is shipped where none is named


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    import_verbs()


@dataclass(frozen=True)
class Case:
    """One parameter of one verb."""

    words: tuple[str, ...]
    command: Any
    parameter: Any

    def line(self, odd: str) -> list[str]:
        """The verb with that value, and whatever else it cannot do without."""
        options, arguments = [], []
        for one in self.command.params:
            needed = one.required or one.name in WITHOUT_IT_MUCH_IS_DONE
            if one is not self.parameter and not needed:
                continue
            value = odd if one is self.parameter else GIVEN.get(one.name, "x")
            if one.param_type_name == "argument":
                arguments.append(value)
            else:
                options.append(f"{one.opts[0]}={value}")
        return [*self.words, *options, "--", *arguments]


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(command, TyperGroup):
        yield words, command
        return
    for name in command.list_commands(None):  # type: ignore[arg-type]
        yield from commands(command.get_command(None, name), (*words, name))  # type: ignore[arg-type]


def cases() -> list[Case]:
    """Every parameter that takes a value."""
    return [
        Case(words, command, one)
        for words, command in commands(typer.main.get_command(app))
        for one in command.params
        if not getattr(one, "is_flag", False) and one.name != "help"
    ]


CASES = cases()


class _Served:
    """Stands for a server: it serves nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def run(self, **_: Any) -> None:
        """Return at once."""


@pytest.fixture
def folder(tmp_path: Path, agree_run: Path, tiny_folder: Path, concept: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a store, a spec, a concept, a pipe and a folder; nothing is served, and no hub asked."""
    (tmp_path / "data").mkdir()
    copied(agree_run, tmp_path / "data")
    quick.spec_file(tmp_path, tiny_folder, concept)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("steering_core.cli.explore.server", _Served)
    monkeypatch.setattr("webbrowser.open", lambda *_: True)
    return tmp_path


def check(case: Case, odd: str) -> bool:
    """Give a parameter an odd value; whether that was refused. Fails for anything but an answer or one paragraph.

    A refusal comes at once. A value that is odd and means something (a store named -inf) is worked with.
    """
    line = case.line(ODD[odd])
    begun = time.perf_counter()
    found = CliRunner().invoke(app, line, standalone_mode=False)
    seconds, fault = time.perf_counter() - begun, found.exception
    assert fault is None or seconds < SECONDS, f"{line} is refused after {seconds:.1f} s"
    assert fault is None or isinstance(fault, SteerflowError | UsageError | SystemExit), f"{line} gives {fault!r}"
    assert "Traceback" not in found.output, line
    if isinstance(fault, SteerflowError):
        assert str(fault).strip(), line
        assert "\n\n" not in str(fault).strip(), line
    if odd == "empty" and case.parameter.name not in MAY_BE_EMPTY:
        assert isinstance(fault, UsageError), f"{line} takes an empty value: {found.output[:300]}"
    return fault is not None


def test_an_odd_value_of_every_parameter_is_refused_at_once(folder: Path) -> None:
    draw, refused = random.Random(22), 0
    assert len(CASES) > 200
    for case in CASES:
        refused += check(case, draw.choice(list(ODD)))
    assert refused > len(CASES) / 2


def test_no_parameter_but_a_text_is_empty(folder: Path) -> None:
    for case in CASES:
        check(case, "empty")


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD)
def test_every_odd_value_of_every_parameter_is_refused_at_once(folder: Path, odd: str) -> None:
    for case in CASES:
        check(case, odd)


LINES = {
    "no text": [b"concepts", b"show", b"\xff\xfe.yaml"],
    "no text in an expression": [b"generate", b"no-such-model", b"Hi", b"--steer=\xff"],
    "no text as a verb": [b"\xff"],
    "no text as an option": [b"sql", b"--\xff"],
    "a name of many letters": [b"vectors", b"show", b"x" * 100_000, b"--store=data/store"],
    "an empty store": [b"store", b"info", b"--store="],
    "SQL that is no text": [b"sql", b"SELECT '\xff'", b"--store=data/store"],
    "a pipe": [b"run", b"pipe"],
}


@pytest.mark.parametrize("name", LINES)
def test_in_a_process_of_its_own_one_paragraph_is_all(name: str, folder: Path) -> None:
    done = subprocess.run(
        [os.fsencode(STEER), *LINES[name]], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
    )
    said = done.stderr.decode()
    assert done.returncode == 2, said
    assert "Traceback" not in said
    assert "\n\n" not in said.strip()
    assert len(said) < 5_000
    assert not done.stdout
