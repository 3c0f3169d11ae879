"""Every public function, method and class says what it is, nested ones among them; `...` bodies of protocols too."""

import ast
import inspect
import pydoc
import re
from pathlib import Path

import pytest

import steering_core as steer

ROOT = Path(__file__).parent.parent
MODULES = sorted(path for folder in ("steering_core", "flows") for path in (ROOT / folder).rglob("*.py"))
Documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def silent(source: str) -> list[str]:
    """Names of what is public, wherever it stands, and has no docstring; a module's own is among them."""
    tree = ast.parse(source)
    public = [n for n in ast.walk(tree) if isinstance(n, Documented) and not n.name.startswith("_")]
    public = [n for n in public if "overload" not in map(ast.unparse, n.decorator_list)]  # a form of what follows
    unsaid = [node.name for node in public if not ast.get_docstring(node)]
    return unsaid if ast.get_docstring(tree) else ["the module", *unsaid]


SUBJECTLESS = re.compile(
    r"The same(?=[,:;.]| (as|at|done|for|in|lazily|trained|where|with|without)\b)|(As(?! many)|That of|Those of) "
)


def subjectless(source: str) -> list[str]:
    """Docstrings that begin without saying what they are of, so that one has to read those around them first."""
    nodes = (node for node in ast.walk(ast.parse(source)) if isinstance(node, Documented))
    return [told for node in nodes if SUBJECTLESS.match(told := ast.get_docstring(node) or "")]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_docstring_names_its_subject(path: Path) -> None:
    assert not subjectless(path.read_text())


def test_a_docstring_without_a_subject_is_found() -> None:
    source = """def f(): "The same for many."\ndef g(): "The same vector, longer."\ndef _h(): "As a shell takes it." """
    assert subjectless(source) == ["The same for many.", "As a shell takes it."]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_public_has_a_docstring(path: Path) -> None:
    assert not silent(path.read_text())


def test_what_has_none_is_found() -> None:
    source = "def f():\n    def g(): ...\n    def _h(): ...\nclass A:\n    'A.'\n    async def b(self): ..."
    assert silent(source) == ["the module", "f", "g", "b"]


MOST_OF_A_DEFAULT = 200  # letters, as `help` shows it


def functions(name: str) -> list[tuple[str, object]]:
    """A function of the Python API by its name, or the functions that a class of it defines itself."""
    found = getattr(steer, name)
    own = vars(found) if isinstance(found, type) else {name: found}
    return [(f"{name}.{of}", one) for of, one in own.items() if inspect.isfunction(one)]


def test_help_shows_no_default_that_is_a_page() -> None:
    """Bodies of data as defaults, such as the schema of every table, hide what a person looks for in `help`."""
    found = [pair for name in steer.__all__ for pair in functions(name)]
    assert len(found) > 100
    for called, one in found:
        defaults = [parameter.default for parameter in inspect.signature(one).parameters.values()]  # type: ignore[arg-type]
        assert max((len(repr(default)) for default in defaults), default=0) <= MOST_OF_A_DEFAULT, called


def test_help_on_a_store_is_short_and_begins_with_what_one_reads_by() -> None:
    shown = pydoc.render_doc(steer.Store, renderer=pydoc.plaintext)
    assert len(shown) < 7000
    assert shown.index("`query`") < shown.index("Methods defined here")
