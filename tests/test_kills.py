"""kill -9 in the midst of every stage and verb: nothing is lost, nothing doubled, and the end is as if undisturbed.

A few here; 200 with `pytest -m slow tests/test_kills.py`.
"""

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from steering_core.concepts import Concept
from steering_core.store import Store, wholeness
from tests import quick
from tests.stored import contents, fill, held, identity, made_up_concept, planted_directions

ROUND = {"run": 9, "compact": 4, "gc": 4, "export": 1, "verify": 2}  # kills of each verb, in their order
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


def undisturbed(worker: Worker, root: Path) -> tuple[dict[str, list[Any]], dict[str, int]]:
    """What a store holds after every verb, and how many events each has."""
    events = {}
    for verb in ROUND:
        if verb == "gc":
            litter(root)
        _, events[verb] = worker.do(verb, root)
    return contents(root), events


def disturbed(worker: Worker, root: Path, events: dict[str, int], when: random.Random, kills: dict[str, int]) -> int:
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
            killed, _ = worker.do(verb, root, when.randint(1, events[verb]))
            left, done = left - killed, done + killed
            if verb != "gc":
                after = held(root)
                lost = {table: keys - after[table] for table, keys in before.items()}
                assert not any(lost.values()), (verb, lost)
        worker.do(verb, root)
    held(root)
    return done


def check(worker: Worker, folder: Path, rounds: int, kills: dict[str, int], seed: int) -> int:
    """Disturb so many stores; each must end as one that nobody disturbed. How many kills there were."""
    for name in ("whole", *map(str, range(rounds))):
        (folder / name).mkdir()
    expected, events = undisturbed(worker, folder / "whole" / "store")
    when, done = random.Random(seed), 0
    assert min(len(rows) for name, rows in expected.items() if name in ("activations", "vectors", "scores")) > 0
    for i in range(rounds):
        root = folder / str(i) / "store"
        done += disturbed(worker, root, events, when, kills)
        found = contents(root)
        assert Counter({table: len(rows) for table, rows in found.items()}) == {t: len(r) for t, r in expected.items()}
        assert found == expected
        assert wholeness.verify(Store(root).folder)[1] == []
        assert not list(root.rglob(".tmp-*"))
    return done


def test_killed_in_every_verb_a_store_ends_as_if_undisturbed(worker: Worker, tmp_path: Path) -> None:
    assert check(worker, tmp_path, 1, {"run": 2, "compact": 2, "gc": 1, "export": 1, "verify": 1}, seed=1) >= 5


@pytest.mark.slow
def test_killed_two_hundred_times_nothing_is_lost_or_doubled(worker: Worker, tmp_path: Path) -> None:
    assert check(worker, tmp_path, 11, ROUND, seed=2) >= 200
