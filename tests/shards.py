"""Extractions into a store: prompts that share their beginnings, the shards that they fill, and a small disk."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from steering_core.activations.extract import extract
from steering_core.models import Model
from steering_core.prompts import Prompt
from steering_core.store import Store

SPECIAL = 3  # a special token of the tiny tokenizer
PROMPTS = 30


def prompts_that_share(tokenizer_id: str, n: int = 24, seed: int = 0) -> list[Prompt]:
    """A common beginning, stems of several lengths, two or three ends each; and some that share nothing."""
    drawn = np.random.default_rng(seed)

    def some(low: int, high: int) -> tuple[int, ...]:
        return tuple(int(t) for t in drawn.integers(4, 200, int(drawn.integers(low, high))))

    common, made = (SPECIAL, *some(6, 7)), []
    for _ in range(n // 3):
        stem = common + some(3, 14) + (SPECIAL,)
        for _ in range(int(drawn.integers(2, 4))):
            end = some(1, 6)
            made.append(Prompt(stem + end, "shared", len(stem), tokenizer_id))
    alone = [some(1, 20) for _ in range(n // 4)]
    made += [Prompt(tokens, "alone", len(tokens), tokenizer_id) for tokens in alone]
    return list({p.prompt_id: p for p in made}.values())


def extracted(model: Model, store: Store, n: int = PROMPTS) -> int:
    """How many activations of so many stems of prompts were extracted."""
    return extract(model, store, prompts_that_share(model.identity.tokenizer_id, n), range(4), "last").work.computed


def count(store: Store) -> tuple[int, int]:
    """Rows of activations, and different ones."""
    (row,) = store.rows("SELECT count(*) AS n, count(DISTINCT (prompt_id, layer)) AS k FROM raw.activations")
    return row["n"], row["k"]


def shard_paths(store: Store) -> list[Path]:
    """The files of activations, in order."""
    return sorted(Path(store.root, "activations").glob("*/*.parquet"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of 2 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    yield disk
    subprocess.run(["umount", disk], check=True)
