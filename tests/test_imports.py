"""Imports do nothing: no MLX, no Prefect, no server, no changed limits."""

import ast
import contextlib
import importlib.metadata
import re
import resource
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import transformers
from packaging.requirements import Requirement
from transformers.utils import import_utils

from steering_core.models.quick_transformers import keeping

ROOT = Path(__file__).parents[1]


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "statement", ["import steering_core", "import steering_core.cli", "import steering_core.foundation.errors"]
)
def test_the_core_and_the_command_line_load_neither_mlx_nor_prefect(statement: str) -> None:
    assert not {"mlx", "mlx_lm", "prefect", "transformers"} & loaded_by(statement)


def test_the_pipeline_never_loads_prefect_and_scipys_statistics_only_when_it_computes_some() -> None:
    assert not {"prefect", "scipy.stats", "scipy.optimize"} & loaded_by("import steering_core.pipeline.discover")


@pytest.mark.parametrize("module", ["store", "cli.sql", "cli.runs", "cli.store", "cli.explain"])
def test_reading_the_store_needs_no_mlx(module: str) -> None:
    assert not {"mlx", "mlx_lm", "transformers"} & loaded_by(f"import steering_core.{module}")


def test_loading_mlx_lm_keeps_the_open_file_limit() -> None:
    code = (
        "import resource\nbefore = resource.getrlimit(resource.RLIMIT_NOFILE)\nimport steering_core.models.mlx_lm\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == before, before"
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    subprocess.run([sys.executable, "-c", code], check=True)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


OPENED = """
import sys
seen = []
sys.addaudithook(lambda event, given: seen.append(str(given[0])) if event == "open" else None)
import steering_core.models.mlx_lm
print(sum("/transformers/models/" in name and name.endswith(".py") for name in seen))
"""


def test_transformers_files_are_read_through_once_and_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That takes half of the CPU seconds of an import, and every process imports it that has a model."""
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path))

    def opened() -> int:
        done = subprocess.run([sys.executable, "-c", OPENED], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert opened() > 1000
    (file,) = (tmp_path / "transformers").iterdir()
    kept = file.read_bytes()
    assert opened() < 100
    file.write_bytes(kept[:1000])
    assert opened() > 1000
    assert file.read_bytes() == kept


@pytest.mark.parametrize("prefix", [None, "models"])
@pytest.mark.parametrize("inside", ["", "__init__.py", "auto/__init__.py"])
def test_what_is_kept_of_transformers_is_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str | None, inside: str
) -> None:
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path))
    define = import_utils.define_import_structure
    scans = getattr(define, "__wrapped__", define)
    defined = keeping(scans)
    path = Path(transformers.__file__).parent / "models" / inside
    for _ in range(2):
        assert defined(str(path), prefix) == scans(str(path), prefix)
    monkeypatch.setenv("STEERFLOW_CACHE", "/proc/nowhere")
    assert defined(str(path), prefix) == scans(str(path), prefix)


def test_a_version_of_transformers_that_names_things_otherwise_keeps_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def otherwise(path: str | Path, prefix: str | None = None) -> dict[frozenset[str], dict[str, set[str]]]:
        return {frozenset(): {f"{prefix or 'none'}/models": {"Model"}}}

    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path))
    path = Path(transformers.__file__).parent / "models"
    for _ in range(2):
        assert keeping(otherwise)(str(path), "transformers") == otherwise(path, "transformers")
    assert not any(tmp_path.rglob("*.json"))


def required() -> set[str]:
    """The distributions that steerflow needs, those that its extras for users name, and all that they need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    waiting = [*project["dependencies"], *extras["datasets"], *extras["s3"]]
    found: set[str] = set()
    while waiting:
        requirement = Requirement(waiting.pop())
        name, marker = canonical(requirement.name), requirement.marker
        if name not in found and (marker is None or marker.evaluate({"extra": ""})):
            found.add(name)
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # of another system
                waiting += importlib.metadata.requires(name) or []
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(folder: str) -> Iterator[tuple[str, Path]]:
    """The packages that the modules of a folder import, wherever in a module they do."""
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((alias.name.split(".")[0], path) for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                yield node.module.split(".")[0], path


@pytest.mark.parametrize("folder", ["steering_core", "flows"])
def test_what_is_imported_comes_without_the_tools_of_tests(folder: str) -> None:
    """`make discover` installs no more than that."""
    needed = required()
    distributions = importlib.metadata.packages_distributions()
    extras = {"datasets", "pandas", "polars"}  # for people who have them
    known = {*sys.stdlib_module_names, "steering_core", "flows", *extras}
    for package, path in imported(folder):
        if package not in known:
            assert needed & set(map(canonical, distributions.get(package, []))), f"{path} imports {package}"
