"""What Python may be told names an option of the command line within a whole command, or beside Python's own word."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS_ONLY = {
    "steering_core/baking/card.py": "a folder's README, whose lines are for a shell",
    "steering_core/baking/forms.py": "the Python file of a folder, which mlx-lm runs",
    "steering_core/concepts/formats/refusal.py": "options of the command that it begins with, `steer concepts import`",
    "steering_core/reports/fitting.py": "tables that the command line prints",
    "steering_core/reports/next_steps.py": "commands, word by word",
}
LOADED = """
import sys
import steering_core
for name in steering_core.__all__:
    getattr(steering_core, name)
import steering_core.store.objects
print(*(module.__file__ for name, module in sys.modules.items() if name.startswith("steering_core.")), sep="\\n")
"""


def modules() -> list[Path]:
    """The modules that the names of `steering_core` lead to."""
    done = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, cwd=ROOT)
    return sorted(Path(line) for line in done.stdout.splitlines())


def sentences(source: str) -> Iterator[str]:
    """Texts of several words that a module holds, with an X for what is filled in; no docstrings."""
    tree = ast.parse(source)
    left_out = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = (node.values for node in ast.walk(tree) if isinstance(node, ast.JoinedStr))
    left_out |= {id(part) for values in parts for part in values}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            text = "".join(str(one.value) if isinstance(one, ast.Constant) else "X" for one in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            text = node.value
        else:
            continue
        if " " in text:
            yield text


def unsaid(text: str) -> list[str]:
    """The options of a text that stand in no command and beside no word of Python."""
    outside = re.sub(r"`[^`]*`", "", text)
    options = re.findall(r"(?<![\w-])--[a-z][a-z-]*", outside)
    return [] if "in Python" in outside else [one for one in options if not re.search(rf"{one}, [a-z_]+=", outside)]


def test_an_option_is_named_with_what_it_is_in_python() -> None:
    found = modules()
    assert len(found) > 200
    told = {path.relative_to(ROOT).as_posix(): list(sentences(path.read_text())) for path in found}
    wrong = {name: [text for text in texts if unsaid(text)] for name, texts in told.items()}
    assert {name for name, texts in wrong.items() if texts} == COMMANDS_ONLY.keys(), wrong


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("name another with --store", ["--store"]),
        ("name another (--store, store=)", []),
        ("give --all (in Python every=True)", []),
        ("run `steer store verify --store COPY`", []),
        ("run `steer runs`, or leave --wide out (--store, store=)", ["--wide"]),
    ],
)
def test_an_option_alone_is_found(text: str, options: list[str]) -> None:
    assert unsaid(text) == options


def test_texts_are_read_as_they_are_printed() -> None:
    source = '"""A --x y."""\nf"a {b} --c"\nx = f"a {b} " "--d"\n'
    assert list(sentences(source)) == ["a X --c", "a X --d"]
