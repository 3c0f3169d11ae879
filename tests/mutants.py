"""Mutants of files: a few bytes of a good file changed, which is then read, or refused in one sentence."""

import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from steering_core.exports.vector_file import Entry, VectorFile
from steering_core.foundation.errors import SteerflowError
from steering_core.models import ModelIdentity
from steering_core.vectors.vector import Vector

MUTANTS = 150  # of each form; thousands were tried once
WIDTH = 32
MODEL = ModelIdentity("0" * 20, "tiny", "llama", 4, WIDTH, 260, "float32", "none", "1" * 20, 512)
SEED = 22
SECONDS = 5.0
WORTH_TRYING = (
    b"\xff" * 8,
    b"\0" * 8,
    b"\xff\xff\xff\x7f",
    b"\0\0\0\x80",
    (1 << 40).to_bytes(8, "little"),
    b"{}[]",
    b"\n",
)
ROOM = 4 << 30  # bytes of address space beyond what is taken


def whole(form: str) -> VectorFile:
    """Vectors at three layers, as a file has them."""
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
