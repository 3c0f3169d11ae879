"""A machine on which a BLAS is to be chosen: a fixture for tests of how it is tried, and of which it is."""

import sys
from pathlib import Path

import pytest

from steering_core.backend.blas import candidates as found
from steering_core.backend.blas import choice, timings

FLAGS = frozenset({"avx2", "fma", "avx512f", "avx512vl", "avx512bw", "avx512dq"})
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="BLAS is loaded on Linux alone")


@pytest.fixture
def two_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An AVX-512 processor, an OpenBLAS and an MKL, an empty cache, nothing forced."""
    for name in (found.FORCED, found.CORE_TYPE, *timings.THREAD_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name in ("libopenblas.so.0", "libmkl_rt.so.3"):
        (tmp_path / name).write_bytes(b"no library")
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(found, "processor", lambda: ("a processor", FLAGS))
    monkeypatch.setattr(choice, "processor", lambda: ("a processor", FLAGS))
    monkeypatch.setattr(found, "libraries", lambda kind, _: [str(tmp_path / found._NAMES[kind][0])])
