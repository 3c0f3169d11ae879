"""The map is true: layers hold, package docstrings name what exists, the drawn tree of errors is the classes'."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from steering_core.foundation import errors
from tools.figures import import_cycle, imported, module_name, sources

ROOT = Path(__file__).parent.parent
PACKAGES = sorted(path.parent for path in (ROOT / "steering_core").rglob("__init__.py"))


def test_each_package_imports_only_what_stands_below_it() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout


@pytest.fixture(scope="module")
def trees() -> dict[str, ast.Module]:
    """The syntax tree of every module, by its dotted name."""
    return {module_name(path): ast.parse(path.read_text()) for path in sources("steering_core", "flows", "tests")}


def test_no_modules_import_each_other_in_a_circle(trees: dict[str, ast.Module]) -> None:
    """Imports inside functions and for types alone count too: they hide a circle and do not break it."""
    assert len(trees) > 500
    assert not import_cycle(trees)


def test_no_test_imports_another(trees: dict[str, ast.Module]) -> None:
    """What two of them need is in a module of its own, so that a test file can be moved, renamed or run alone."""
    tests = [name for name in trees if name.startswith("tests.test_")]
    assert len(tests) > 100
    assert not {name: found for name in trees if (found := imported(name, trees[name], tests))}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("from p.b import x", "", []),
        ("from p.b import x", "def f():\n    from p import a", ["p.a", "p.b", "p.a"]),
        ("import p.b", "if TYPE_CHECKING:\n    from p.a import x", ["p.a", "p.b", "p.a"]),
        ("from p import b", "from p import x", ["p", "p.b", "p"]),
    ],
)
def test_a_circle_is_found_wherever_it_hides(first: str, second: str, expected: list[str]) -> None:
    trees = {"p": ast.parse("from p.b import x"), "p.a": ast.parse(first), "p.b": ast.parse(second)}
    found = import_cycle(trees)
    assert set(found) == set(expected)
    assert not found or found[0] == found[-1]


def test_every_package_has_its_layer_and_its_line_in_the_map() -> None:
    contract = (ROOT / "pyproject.toml").read_text().partition("[tool.importlinter]")[2]
    layers = set(re.findall(r"steering_core\.(\w+)", contract))
    units = {p.name for p in PACKAGES if p.parent.name == "steering_core"} | {"prompts", "runs", "spec", "spec_files"}
    assert layers == units
    shown = (ROOT / "docs" / "architecture.md").read_text()
    assert all(re.search(rf"^.*\b{unit}(/|\.py)", shown, re.MULTILINE) for unit in units)


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_package_docstrings_name_modules_that_exist(package: Path) -> None:
    told = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    assert told
    modules = {path.stem for path in package.iterdir() if path.suffix in (".py", "") and path.name[0] != "_"}
    named = set(re.findall(r"(?<![\w./(])`([a-z_]+)`(?!\()", told))
    assert named <= modules, f"{package.name} names {named - modules}"


def test_the_drawn_tree_of_errors_is_the_classes() -> None:
    drawn = re.findall(r"^    ([│ ]*)[├└]── (\w+)", errors.__doc__ or "", re.MULTILINE)
    path: list[str] = ["SteerflowError"]
    seen = {"SteerflowError"}
    for indent, name in drawn:
        depth = len(indent) // 4 + 1
        path = [*path[:depth], name]
        assert getattr(errors, name).__bases__[0].__name__ == path[depth - 1], name
        seen.add(name)
    classes = {n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, errors.SteerflowError)}
    assert seen == classes


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md"))])
def test_files_that_the_documentation_names_exist(page: str) -> None:
    """But for docs/log.md, which tells of what there was."""
    path = r"`?((?:steering_core|flows|tests|benchmarks|tools)/[\w/]+\.(?:py|sql|lark|j2|json))"
    named = re.findall(path, (ROOT / page).read_text())
    missing = [name for name in named if not (ROOT / name).exists()]
    assert page == "docs/log.md" or not missing
