"""The README is true: its commands exist and run, its SQL answers, its files load."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from steering_core.cli.main import VERBS
from steering_core.concepts import Concept
from steering_core.interventions.parsing import parse
from steering_core.pipeline.discover import run
from steering_core.spec import Spec
from steering_core.spec_files import load_spec
from steering_core.store import Store
from tests import quick

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]


@pytest.fixture(scope="module")
def quickstart(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's store, made by a tiny model."""
    spec = load_spec("quickstart")
    cheap = {"layers": (1, 2), "doses": (0.5,), "prompts": 1, "max_tokens": 3}
    given = spec.model_dump() | {"models": (str(tiny_folder),), "generations": cheap}
    store = Store(tmp_path_factory.mktemp("readme") / "store")
    run(Spec.model_validate(given | {"scores": quick.SCORES | {"items": 8, "side_effects": "auto"}}), store)
    return store.root


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("steer sql")])
def test_sql_commands_answer(quickstart: Path, line: str) -> None:
    steer = Path(sys.executable).with_name("steer")
    arguments = [*shlex.split(line)[1:], "--store", str(quickstart)]
    done = subprocess.run([steer, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 3


@pytest.mark.parametrize("query", blocks("sql"))
def test_sql_blocks_answer(quickstart: Path, query: str) -> None:
    assert Store(quickstart).query(query).num_rows > 0


def test_every_make_word_is_in_the_makefile() -> None:
    words = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    used = set(re.findall(r"\bmake ([a-z]+)", " ".join(COMMANDS))) | {"test", "lint", "figures", "install"}
    assert used <= words


@pytest.mark.real
def test_python_blocks_run(quickstart: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "store").symlink_to(quickstart)
    for block in blocks("python"):
        subprocess.run([sys.executable, "-c", block], cwd=tmp_path, check=True)


def test_its_expressions_are_read() -> None:
    shown = re.findall(r"--steer '([^']+)'", README) + re.findall(r"`([^`\n]*(?:\*[a-z]+|![a-z]+)[^`\n]*)`", README)
    assert len(shown) >= 4
    for expression in shown:
        parse(expression)


def test_every_verb_it_names_is_one() -> None:
    used = {line.split()[1] for line in COMMANDS if line.startswith("steer ")}
    assert used <= set(VERBS)
    assert all(re.search(rf"\b{verb}\b", README) for verb in VERBS)


def test_yaml_blocks_are_a_concept_and_a_spec() -> None:
    concept, spec = (yaml.safe_load(block) for block in blocks("yaml"))
    assert Concept.model_validate(concept).pairs
    assert Spec.model_validate(spec).models


def test_every_path_it_names_is_there() -> None:
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / link).exists(), link


def test_documented_expressions_stand_in_single_quotes() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    wrong = [f"{page.name}: {line}" for page in pages for line in page.read_text().splitlines() if '--steer "' in line]
    assert not wrong  # `!` and `*` are the shell's in double quotes
