"""Style figures of this tree, the ones that docs/style.md compares with other codebases: `make figures`."""

import ast
import statistics
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sources(*folders: str) -> list[Path]:
    """Python files under `folders` that git knows."""
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / name for name in listed.stdout.split() if name.endswith(".py")]


def functions(tree: ast.Module) -> Iterator[Function]:
    """Every function and method, nested ones too."""
    yield from (node for node in ast.walk(tree) if isinstance(node, Function))


def public(tree: ast.Module) -> Iterator[ast.AST]:
    """The module, its public classes and functions, and their public methods."""
    yield tree
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (m for m in node.body if isinstance(m, Function) and not m.name.startswith("_"))


def percent(part: int, whole: int) -> str:
    """A share as a whole percentage."""
    return f"{100 * part / whole:.0f} %" if whole else "-"


def spread(values: Sequence[int]) -> str:
    """Median, 90th percentile and maximum."""
    ordered = sorted(values)
    return f"{statistics.median(ordered):.0f} / {ordered[int(0.9 * (len(ordered) - 1))]} / {ordered[-1]}"


def imports_inside(tree: ast.Module) -> int:
    """Imports that do not stand at a module's top level."""
    nested = 0
    for function in functions(tree):
        nested += sum(isinstance(node, ast.Import | ast.ImportFrom) for node in ast.walk(function))
    return nested


def imported(name: str, tree: ast.Module, modules: Collection[str]) -> set[str]:
    """Those of `modules` that a module imports, in functions and for types alone as well.

    A name out of a package is the module of that name where there is one, and the package otherwise.
    """
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {one if one in modules else node.module for one in inside}
    return (found & set(modules)) - {name}


def import_cycle(trees: Mapping[str, ast.Module]) -> list[str]:
    """Modules of which each imports the next, and the last is the first; empty where there is no cycle."""
    try:
        TopologicalSorter({name: imported(name, tree, trees) for name, tree in trees.items()}).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def module_name(path: Path) -> str:
    """Dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def main() -> None:
    """Print the figures."""
    files = sources("steering_core", "flows")
    trees = {module_name(f): ast.parse(f.read_text()) for f in files}
    lines = sorted(len(f.read_text().splitlines()) for f in files)
    found = [f for tree in trees.values() for f in functions(tree)]
    lengths = [(f.end_lineno or f.lineno) - f.lineno + 1 for f in found]
    arguments = [a for f in found for a in [*f.args.posonlyargs, *f.args.args, *f.args.kwonlyargs]]
    arguments = [a for a in arguments if a.arg not in ("self", "cls")]
    documented = [ast.get_docstring(node) is not None for t in trees.values() for node in public(t)]  # type: ignore[arg-type]
    tests = sum(len(f.read_text().splitlines()) for f in sources("tests"))
    rows = {
        "files, lines of code": f"{len(files)}, {sum(lines):,}",
        "file median / max lines": f"{statistics.median(lines):.0f} / {lines[-1]}",
        "function median / p90 / max lines": spread(lengths),
        "arguments typed": percent(sum(a.annotation is not None for a in arguments), len(arguments)),
        "returns typed": percent(sum(f.returns is not None for f in found), len(found)),
        "public docstrings": percent(sum(documented), len(documented)),
        "import cycles": " -> ".join(import_cycle(trees)) or "0",
        "nested imports": str(sum(imports_inside(t) for t in trees.values())),
        "test lines / code lines": f"{tests / sum(lines):.2f}",
    }
    for name, value in rows.items():
        print(f"{name:<36}{value}")  # noqa: T201
    longest = sorted(zip(lengths, found, strict=True), key=lambda pair: -pair[0])[:3]
    print("longest functions: " + ", ".join(f"{f.name} ({n})" for n, f in longest))  # noqa: T201


if __name__ == "__main__":
    main()
