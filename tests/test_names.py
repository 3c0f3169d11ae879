"""One name, one thing: no two public classes, aliases of types or private classes share a name, and few modules do."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for folder in ("steering_core", "flows") for path in (ROOT / folder).rglob("*.py"))

EVERY_PACKAGE = {"__init__.py", "__main__.py"}  # Python's own names
# A verb's file in `cli/`, and a flow's, is named as the module that does the work: `steer store`, `store/store.py`.
FRONTS = ("cli", "flows", "explorer/routes")


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def names(tree: ast.Module) -> Iterator[str]:
    """Classes, wherever they stand, and what a module calls types by: `Row = Mapping[str, Any]`, no constants."""
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            variable = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "TypeVar"
            if target.id[0].isupper() and not target.id.isupper() and not variable:
                yield target.id


def twice(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {name: places for name, places in found.items() if len(places) > 1}


def test_a_type_has_a_name_of_its_own() -> None:
    found = defaultdict(list)
    for path in MODULES:
        for name in names(ast.parse(path.read_text())):
            found[name].append(place(path))
    assert len(found) > 300
    assert not twice(found)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("class A: ...", ["A"]),
        ("def f():\n    class _B: ...", ["_B"]),
        ("Row = dict[str, int]\nROWS = 3\nT = TypeVar('T')\nrouter = 1", ["Row"]),
        ("Found = TypeVar('Found')", []),
    ],
)
def test_names_are_those_of_types(source: str, expected: list[str]) -> None:
    assert list(names(ast.parse(source))) == expected


def test_a_module_shares_its_name_with_one_other_at_most() -> None:
    found = defaultdict(list)
    for path in MODULES:
        if path.name not in EVERY_PACKAGE and not place(path.parent).endswith(FRONTS):
            found[path.name].append(place(path))
    assert not {name: places for name, places in found.items() if len(places) > 2}
