"""What a verb prints on a terminal: texts of stores, concepts and errors are shown there, and it obeys none of them."""

import io
import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table

from steering_core.foundation.terminal import harmless
from steering_core.reports.printing import SafeConsole, print_rows
from steering_core.store import Store
from tests.stored import concept_rows

STEER = Path(sys.executable).with_name("steer")
CLEAR, TITLE, LINK = "\x1b[2J", "\x1b]0;owned\x07", "\x1b]8;;http://evil\x1b\\"
EVIL = f"{CLEAR}{TITLE}{LINK}\x9b31m\u202e\x00\x7f back\rover [/] [bold] [link=x] :smile:"
SHOWN = (
    r"\u001b[2J\u001b]0;owned\u0007\u001b]8;;http://evil\u001b" + "\\"
    r"\u009b31m\u202e\u0000\u007f back\u000dover [/] [bold]"
)


def on_a_terminal(folder: Path, *words: str) -> str:
    """What a verb prints with a terminal for its output and its errors, one that has no colours."""
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "250", "HF_HUB_OFFLINE": "1"}
    done = subprocess.Popen(
        [STEER, *words], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, cwd=folder, env=environment
    )
    os.close(slave)
    said = b""
    while True:
        try:
            piece = os.read(master, 65_536)
        except OSError:  # Linux says so when the last writer has gone
            break
        if not piece:
            break
        said += piece
    os.close(master)
    done.wait()
    return said.decode().replace("\r\n", "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store whose concept has a terrible name, and a concept that speaks like that."""
    folder = tmp_path_factory.mktemp("terminal")
    (row,) = concept_rows("a")
    Store(folder / "data" / "store").append("concepts", [{**row, "name": EVIL, "description": EVIL}])
    pairs = [{"prompt": EVIL, "positive": f"{EVIL} {i}", "negative": f"{i}"} for i in range(3)]
    concept = {"name": "evil", "description": EVIL, "pairs": pairs, "card": {"what": EVIL}}
    (folder / "evil.json").write_text(json.dumps(concept))
    return folder


VERBS = {
    "a table": ["sql", "SELECT name FROM raw.concepts"],
    "a column's name": ["sql", "SELECT 1 AS " + '"' + EVIL.replace("\0", "") + '"'],
    "CSV": ["sql", "SELECT name FROM raw.concepts", "--format", "csv"],
    "JSON": ["sql", "SELECT name FROM raw.concepts", "--format", "json"],
    "a concept": ["concepts", "show", "evil.json"],
    "a concept as JSON": ["concepts", "show", "evil.json", "--json"],
    "findings": ["concepts", "lint", "evil.json", "--format", "csv"],
    "an error": ["concepts", "show", EVIL.replace("\0", "")],
    "a wrong option": ["runs", f"--{CLEAR}{TITLE}"],
    "a wrong verb": [f"{CLEAR}{TITLE}"],
}


@pytest.mark.parametrize("case", VERBS)
def test_a_terminal_obeys_nothing_of_what_a_verb_shows(case: str, folder: Path) -> None:
    said = on_a_terminal(folder, *VERBS[case])
    assert "owned" in said or case == "findings", said
    assert "Traceback" not in said, said
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", said), repr(said)


def test_what_is_piped_is_data_as_it_is(folder: Path) -> None:
    words = [str(STEER), "sql", "SELECT name FROM raw.concepts", "--format", "json"]
    done = subprocess.run(words, capture_output=True, cwd=folder, check=True)
    assert json.loads(done.stdout) == [{"name": EVIL}]
    done = subprocess.run(
        [str(STEER), "concepts", "show", "evil.json", "--json"], capture_output=True, cwd=folder, check=True
    )
    assert json.loads(done.stdout)["description"] == EVIL


def test_controls_stand_as_escapes_and_nothing_else_changes() -> None:
    assert harmless(EVIL).startswith(SHOWN)
    plain = "Grüße,\n\tשלום \u200f 👩\u200d🔬\r\n"
    assert harmless(plain) == plain


def test_a_table_has_room_for_what_stands_in_place_of_a_control(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("COLUMNS", "200")
    print_rows([{"name": EVIL}], ["name"])
    assert SHOWN in out.getvalue()
    lines = out.getvalue().splitlines()
    assert len({len(line) for line in lines}) == 1


def test_markup_of_rich_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    table = Table("[bold]x[/]", title="[/y]")
    table.add_row(":smile: [link=z]")
    SafeConsole(width=40).print(table, "[red]")
    for text in ("[bold]x[/]", "[/y]", ":smile: [link=z]", "[red]"):
        assert text in out.getvalue()
