"""Files with bytes exchanged, cut off or repeated: each is read or refused with one error, at once."""

import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from steering_core.concepts.formats.contents import read_contents
from steering_core.exports.files import FORMS
from steering_core.exports.vector_file import Entry, VectorFile
from steering_core.foundation.errors import SteerflowError
from steering_core.models import ModelIdentity
from steering_core.vectors.vector import Vector

SEED = 22
MUTANTS = 150  # of each form; thousands were tried once
SECONDS = 5.0
ROOM = 4 << 30  # bytes of address space beyond what is taken
WIDTH = 32
MODEL = ModelIdentity("0" * 20, "tiny", "llama", 4, WIDTH, 260, "float32", "none", "1" * 20, 512)
WORTH_TRYING = (
    b"\xff" * 8,
    b"\0" * 8,
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    (1 << 40).to_bytes(8, "little"),
    b"{}[]",
    b"\n",
)


def whole(form: str) -> VectorFile:
    directions = np.random.default_rng(SEED).standard_normal((3, WIDTH)).astype(np.float32)
    vectors = [
        Vector(f"{i:020d}", MODEL.model_id, None, "imported", i + 1, 9.0, direction=d, architecture="llama")
        for i, d in enumerate(directions)
    ]
    return VectorFile(MODEL, tuple(Entry(vector) for vector in vectors))


def mutants(data: bytes, n: int, seed: int) -> Iterator[bytes]:
    """`n` variations of a file, the same for the same seed."""
    draw = random.Random(seed)
    for _ in range(n):
        changed = bytearray(data)
        for _ in range(draw.choice((1, 1, 1, 2, 5))):
            at, how = draw.randrange(len(changed)), draw.randrange(6)
            if how == 0:
                changed[at] = draw.randrange(256)
            elif how == 1:
                changed[at] ^= 1 << draw.randrange(8)
            elif how == 2:
                piece = draw.choice(WORTH_TRYING)
                changed[at : at + len(piece)] = piece
            elif how == 3:
                del changed[at : at + draw.randrange(1, 9)]
            elif how == 4:
                begin = draw.randrange(len(changed))
                changed[at:at] = changed[begin : begin + draw.randrange(1, 65)]
            else:
                changed[at:] = b"" if draw.random() < 0.3 else changed[at:]
            changed = changed or bytearray(b"\0")
        yield bytes(changed)


@contextmanager
def little_memory() -> Iterator[None]:
    """What asks for more than some gigabytes fails here, in place of filling the machine."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def check(read: Callable[[Path], object], data: bytes, path: Path, n: int, seed: int = SEED) -> int:
    """Read `n` mutants of `data`; how many were refused. Fails for any error but ours, and for one that takes long."""
    refused = 0
    with little_memory():
        for i, mutant in enumerate(mutants(data, n, seed)):
            path.write_bytes(mutant)
            begun = time.perf_counter()
            try:
                read(path)
            except SteerflowError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"mutant {i} of {path.name} with seed {seed} gives {error!r}") from error
            assert time.perf_counter() - begun < SECONDS, f"mutant {i} of {path.name} with seed {seed} takes long"
    return refused


@pytest.mark.parametrize("ending", sorted(FORMS))
def test_mutants_of_vector_files(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"vectors{ending}"
    FORMS[ending].write(path, whole(ending))
    assert FORMS[ending].read(path)
    refused = check(FORMS[ending].read, path.read_bytes(), path, MUTANTS)
    assert MUTANTS / 4 < refused < MUTANTS


ROWS = '{"prompt": "How are you?", "positive": "Splendid!", "negative": "Awful."}\n'
CONTRASTS = {
    "rows.jsonl": ROWS * 3,
    "rows.json": f"[{ROWS},{ROWS}]",
    "rows.csv": 'prompt,positive,negative\n"How, then?",good,bad\nWell?,fine,ill\n',
    "rows.yaml": "name: mood\npairs:\n- {positive: good, negative: bad}\n- &a {positive: fine, negative: ill}\n",
}


@pytest.mark.parametrize("name", CONTRASTS)
def test_mutants_of_contrast_data(name: str, tmp_path: Path) -> None:
    assert check(read_contents, CONTRASTS[name].encode(), tmp_path / name, MUTANTS) < MUTANTS
