"""Runs in a process of its own, `python trial.py LIBRARY`: does this BLAS multiply rightly, and how fast?

A library that was once loaded into the global symbol space stays there, and one that does not suit the processor may
end the process: hence one process a candidate. Which kernels and how many threads are tried, the caller's environment
says. It imports the standard library alone. The answer is one line of JSON.
"""

import ctypes
import json
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

ROW_MAJOR, AS_IT_IS, TRANSPOSED = 101, 111, 112
NOT_A_NUMBER = float("nan")


class ProductShape(NamedTuple):
    """A product of (rows, inner) by (inner, columns), as MLX asks for it: the second factor transposed for a layer."""

    rows: int
    inner: int
    columns: int
    transposed: bool = True


TIMED = (
    ProductShape(128, 576, 1536),
    ProductShape(128, 1536, 576),
    ProductShape(16, 576, 576),
    ProductShape(1, 576, 1536),
)
ODD = (
    ProductShape(33, 65, 17),
    ProductShape(7, 131, 258),
    ProductShape(33, 65, 17, transposed=False),
    ProductShape(2, 300, 9, transposed=False),
)
ENOUGH, MOST_ROUNDS = 0.06, 8  # seconds and rounds that a shape is timed for, at least two rounds


class Product:
    """One product of small integers, whose sums float32 holds exactly, in whatever order they are made.

    The left factor has ten significant bits: kernels that compute with bfloat16 are caught as well.
    """

    def __init__(self, multiply: Callable[..., None], shape: ProductShape) -> None:
        self.multiply, self.shape = multiply, shape
        rows, inner, columns, transposed = shape
        lefts = [[((r + 3 * p) % 5 - 2) * 409 + 1 for p in range(inner)] for r in range(5)]
        rights = [[(r + 2 * p) % 7 - 3 for p in range(inner)] for r in range(7)]
        sums = [[sum(map(int.__mul__, left, right)) for right in rights] for left in lefts]
        self.left = _floats([lefts[7 * i % 5] for i in range(rows)])
        by_column = [rights[11 * j % 7] for j in range(columns)]
        self.right = _floats(by_column if transposed else list(zip(*by_column, strict=True)))
        self.found = array("f", [NOT_A_NUMBER]) * (rows * columns)
        self.expected = _floats([[sums[7 * i % 5][11 * j % 7] for j in range(columns)] for i in range(5)])

    def run(self) -> None:
        """Multiply once."""
        rows, inner, columns, transposed = self.shape
        left, right, found = (values.buffer_info()[0] for values in (self.left, self.right, self.found))
        order, stride = (TRANSPOSED, inner) if transposed else (AS_IT_IS, columns)
        self.multiply(
            ROW_MAJOR, AS_IT_IS, order, rows, columns, inner, 1.0, left, inner, right, stride, 0.0, found, columns
        )

    def is_right(self) -> bool:
        """Whether every number that `run` left is the right one."""
        rows, columns = self.shape.rows, self.shape.columns
        return (self.expected * -(-rows // 5))[: rows * columns] == self.found


def _floats(rows: Sequence[Sequence[int]]) -> "array[float]":  # subscriptable from Python 3.12 on
    """The rows end to end; equal rows, which are the same list, are converted once."""
    converted = {id(row): array("f", row).tobytes() for row in {id(row): row for row in rows}.values()}
    return array("f", b"".join(converted[id(row)] for row in rows))


def cblas_sgemm(library: ctypes.CDLL) -> Callable[..., None]:
    """The library's matrix product."""
    multiply = library.cblas_sgemm
    whole, single, pointer = ctypes.c_int, ctypes.c_float, ctypes.c_void_p
    multiply.argtypes = [whole] * 6 + [single, pointer, whole, pointer, whole, single, pointer, whole]
    multiply.restype = None
    return multiply


def kernels(library: ctypes.CDLL) -> str:
    """What OpenBLAS calls the kernels that it took; nothing of another library."""
    if not hasattr(library, "openblas_get_corename"):
        return ""
    library.openblas_get_corename.restype = ctypes.c_char_p
    return str(library.openblas_get_corename().decode())


def fastest(product: Product, clock: bool) -> float:
    """The least seconds of a product: of the clock, or else of this thread's CPU time, which other work moves less."""
    now = time.perf_counter if clock else time.thread_time
    least, spent, rounds = float("inf"), 0.0, 0
    while rounds < 2 or (rounds < MOST_ROUNDS and spent < ENOUGH):
        began = now()
        product.run()
        least, spent, rounds = min(least, now() - began), spent + now() - began, rounds + 1
    return least


def probe(path: str, clock: bool) -> dict[str, object]:
    """Whether the library at `path` multiplies rightly, the seconds of all timed products, and its kernels' name."""
    library = ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
    multiply = cblas_sgemm(library)
    products = [Product(multiply, shape) for shape in (*TIMED, *ODD)]
    for product in products:
        product.run()
    timed = products[:1] if clock else products[: len(TIMED)]
    seconds = sum(fastest(product, clock) for product in timed)
    return {
        "right": all(product.is_right() for product in products),
        "seconds": seconds,
        "kernels": kernels(library),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe(sys.argv[1], clock=sys.argv[2:] == ["clock"])) + "\n")
