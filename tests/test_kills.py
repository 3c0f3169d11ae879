"""kill -9 in the midst of every stage and verb: nothing is lost, nothing doubled, and the end is as if undisturbed.

A few here; 200 with `pytest -m slow tests/test_kills.py`.
"""

import json
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load

from steering_core.concepts import Concept
from steering_core.store import Store, wholeness
from tests import quick
from tests.stored import contents, fill, held, identity, made_up_concept, planted_directions
from tests.worker import OUTPUTS

ROUND = {  # kills of each verb, in their order
    **{"run": 7, "train": 3, "compact": 3, "gc": 3},
    **{"export": 1, "bake": 2, "adapter": 1, "pack": 2, "verify": 1},
}
MOST = 12  # times a verb is begun for one kill: the later a kill is meant to be, the less is left to be done


class Worker:
    """A process that does verbs, and dies in the midst of them (tests/worker.py)."""

    def __init__(self, spec: Path) -> None:
        command = [sys.executable, "-m", "tests.worker"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._spec = spec

    def do(self, verb: str, root: Path, n: int = 0) -> tuple[bool, int]:
        """Whether it was killed at the n-th event, and how many there were where it was not."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{verb}\t{n}\t{self._spec}\t{root}\n")
        self._process.stdin.flush()
        status, seen = map(int, self._process.stdout.readline().split())
        assert status in (0, -9), f"{verb} failed, killed at {n}"
        return status == -9, seen

    def end(self) -> None:
        """Have it end."""
        self._process.communicate()


@pytest.fixture
def worker(tiny_folder: Path, concept: Concept, tmp_path: Path) -> Iterator[Worker]:
    path, spec = tmp_path / "loud.yaml", tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    grid = {"layers": [1, 2], "doses": [0.5], "prompts": 1, "max_tokens": 3}
    wanted = {"name": "kills", "models": [str(tiny_folder)], "concepts": [str(path)], "generations": grid}
    spec.write_text(yaml.safe_dump({**wanted, **quick.SPEC}))
    worker = Worker(spec)
    yield worker
    worker.end()


def litter(root: Path) -> None:
    """Rows that nothing refers to, for gc to drop."""
    fill(Store(root), identity(), made_up_concept("unused", 4), planted_directions())


Written = dict[str, Any]
"""What verbs wrote beside a store, by name: of weights the values, of texts and settings all but the hour."""


def written(folder: Path) -> Written:
    """Every output beside a store in `folder`, each file of it read; what cannot be read is no whole file."""
    found = {}
    for name in OUTPUTS.values():
        out = folder / name
        if out.exists():
            files = sorted(out.iterdir()) if out.is_dir() else [out]
            found[name] = {file.name: _read(file) for file in files}
    return found


def _read(file: Path) -> Any:
    data = file.read_bytes()
    if file.suffix == ".safetensors":
        return {name: values.tobytes() for name, values in load(data).items()}
    if file.suffix == ".json":
        json.loads(data)
    return re.sub(rb"20\d\d-\d\d-\d\d(T[0-9:+]+)?", b"", data)


@dataclass(frozen=True)
class Expected:
    """What an undisturbed store and the files beside it hold, and how many events each verb has."""

    rows: dict[str, list[Any]]
    files: Written
    events: dict[str, int]


def undisturbed(worker: Worker, root: Path) -> Expected:
    """Do every verb on a store that nobody disturbs."""
    events = {}
    for verb in ROUND:
        if verb == "gc":
            litter(root)
        _, events[verb] = worker.do(verb, root)
    return Expected(contents(root), written(root.parent), events)


def disturbed(worker: Worker, root: Path, expected: Expected, when: random.Random, kills: dict[str, int]) -> int:
    """Do every verb with so many kills of each, then once to its end; how many kills there were."""
    done = 0
    for verb, wanted in kills.items():
        if verb == "gc":
            litter(root)
        left = wanted
        for _ in range(MOST * wanted):
            if not left:
                break
            before = held(root) if (root / "store.json").exists() else {}
            killed, _ = worker.do(verb, root, when.randint(1, expected.events[verb]))
            left, done = left - killed, done + killed
            if verb != "gc":
                after = held(root)
                lost = {table: keys - after[table] for table, keys in before.items()}
                assert not any(lost.values()), (verb, lost)
            check_output(verb, root.parent, expected.files)
        worker.do(verb, root)
    held(root)
    return done


def check_output(verb: str, folder: Path, expected: Written) -> None:
    """What a verb wrote beside a store is whole, or not there; a whole folder is taken away, as it is not replaced."""
    if verb in OUTPUTS and (found := written(folder).get(OUTPUTS[verb])) is not None:
        assert found == expected[OUTPUTS[verb]], verb
        if (folder / OUTPUTS[verb]).is_dir():
            shutil.rmtree(folder / OUTPUTS[verb])


def check(worker: Worker, folder: Path, rounds: int, kills: dict[str, int], seed: int) -> int:
    """Disturb so many stores; each must end as one that nobody disturbed. How many kills there were."""
    for name in ("whole", *map(str, range(rounds))):
        (folder / name).mkdir()
    expected = undisturbed(worker, folder / "whole" / "store")
    when, done = random.Random(seed), 0
    assert min(len(rows) for name, rows in expected.rows.items() if name in ("activations", "vectors", "scores")) > 0
    assert expected.files.keys() == set(OUTPUTS.values())
    for i in range(rounds):
        root = folder / str(i) / "store"
        done += disturbed(worker, root, expected, when, kills)
        found = contents(root)
        assert Counter({table: len(r) for table, r in found.items()}) == {t: len(r) for t, r in expected.rows.items()}
        assert found == expected.rows
        assert written(root.parent) == expected.files
        assert {path.name for path in root.parent.iterdir()} == {"store", *OUTPUTS.values()}  # nothing unfinished
        assert wholeness.verify(Store(root).folder)[1] == []
        assert not list(root.rglob(".tmp-*"))
    return done


A_FEW = {
    **{"run": 2, "train": 1, "compact": 2, "gc": 1},
    **{"export": 1, "bake": 2, "adapter": 1, "pack": 2, "verify": 1},
}


def test_killed_in_every_verb_a_store_ends_as_if_undisturbed(worker: Worker, tmp_path: Path) -> None:
    assert check(worker, tmp_path, 1, A_FEW, seed=1) >= 10


@pytest.mark.slow
def test_killed_two_hundred_times_nothing_is_lost_or_doubled(worker: Worker, tmp_path: Path) -> None:
    assert check(worker, tmp_path, 10, ROUND, seed=2) >= 200
