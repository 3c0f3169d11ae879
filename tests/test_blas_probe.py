"""How a BLAS is tried: a product is right or is not, and a candidate that ends, hangs or tells nothing is unusable."""

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steering_core.backend.blas import candidates as found
from steering_core.backend.blas import timings, trial
from steering_core.backend.blas.candidates import Candidate
from steering_core.backend.blas.trial import ODD, TIMED, Product, ProductShape
from tests.blas import LINUX, two_libraries  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("two_libraries")


def multiply(change: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., None]:
    """A cblas_sgemm whose result, of the two factors as NumPy has them, is `change`."""

    def sgemm(*given: Any) -> None:
        _, _, order, m, n, k, _, a, lda, b, ldb, _, c, ldc = given

        def view(address: int, rows: int, columns: int) -> np.ndarray:
            return np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (rows, columns))

        right = view(b, n, ldb).T if order == trial.TRANSPOSED else view(b, k, ldb)
        view(c, m, ldc)[:] = change(view(a, m, lda), right)

    return sgemm


def bfloat16(x: np.ndarray) -> np.ndarray:
    return ((x.view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)


def one_off(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    product = a @ b
    product[-1, -1] += 1
    return product


def no_last_step(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[:, :-1] @ b[:-1]


@pytest.mark.parametrize("shape", [*TIMED, *ODD])
@pytest.mark.parametrize(
    ("change", "right"),
    [
        (lambda a, b: a @ b, True),
        (one_off, False),
        (no_last_step, False),
        (lambda a, b: bfloat16(np.ascontiguousarray(a)) @ b, False),
        (lambda a, b: (a @ b)[:, ::-1], False),
        (lambda a, b: np.full((len(a), b.shape[1]), np.nan), False),
    ],
    ids=["right", "one off", "tail lost", "bfloat16", "columns reversed", "nan"],
)
def test_a_product_is_right_or_is_not(shape: ProductShape, change: Callable[..., np.ndarray], right: bool) -> None:
    product = Product(multiply(change), shape)
    assert not product.is_right()  # before it has run
    product.run()
    assert product.is_right() == right


@LINUX
def test_the_probe_tells_of_a_real_library() -> None:
    real = next((path for kind in ("openblas", "mkl") for path in REAL(kind, os.environ)), "")
    if "/" not in real:
        pytest.skip("no BLAS on this machine")
    answer = timings._trial(Candidate(real), 1)
    assert isinstance(answer, dict), answer
    assert answer["right"]
    assert 0 < answer["seconds"] < 60


REAL = found.libraries


def executable(path: Path, body: str) -> str:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("kill -ILL $$", "ended by signal 4"),
        ("sleep 20", "took longer than 0 s"),
        ("echo nonsense", "gave no answer"),
        ("exit 3", "failed without a word"),
    ],
)
def test_a_candidate_that_fails_is_unusable(
    body: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timings, "_SECONDS", 0.3)
    monkeypatch.setattr(sys, "executable", executable(tmp_path / "python", body))
    tried = timings._measure(Candidate("some.so"))
    assert (tried.seconds, tried.said) == (None, said)


def test_a_file_that_is_no_library_is_unusable(tmp_path: Path) -> None:
    tried = timings._measure(Candidate(str(tmp_path / "libmkl_rt.so.3")))
    assert tried.seconds is None
    assert "libmkl_rt.so.3" in tried.said
