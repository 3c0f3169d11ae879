"""MLX, imported once and with a real BLAS behind it: every other module takes `mx` and `nn` from here.

On Linux the CPU build of MLX links the reference BLAS, thirty times slower than a tuned one. Loading OpenBLAS or MKL
into the global symbol space *before* `mlx.core` makes `cblas_sgemm` resolve to it (docs/decisions/0002-blas.md).
"""

import ctypes
import ctypes.util
import logging
import os
import platform
import sys
from pathlib import Path

log = logging.getLogger(__name__)

_CANDIDATES = ("libopenblas.so.0", "libopenblas.so", "libmkl_rt.so.3", "libmkl_rt.so.2", "libmkl_rt.so")
_ADVICE = (
    "MLX runs on its reference BLAS, many times slower than a tuned one: install OpenBLAS "
    "(Debian, Ubuntu: apt-get install libopenblas0-pthread) or, on x86-64, `pip install mkl`"
)


def _preload_blas() -> str | None:
    """Name of the BLAS loaded into the global symbol space; None where none was found or none is needed."""
    if platform.system() != "Linux" or "mlx.core" in sys.modules:
        return None
    folders = ["", f"{sys.prefix}/lib/", f"{sys.base_prefix}/lib/"]
    for name in _CANDIDATES:
        for folder in folders:
            if folder and not Path(folder, name).exists():
                continue
            try:
                ctypes.CDLL(folder + name, mode=ctypes.RTLD_GLOBAL)
            except OSError:  # not installed, or its own requirements are missing: try the next
                continue
            return name
    return None


blas = _preload_blas()

import mlx.core as mx  # noqa: E402  (the BLAS comes first)
import mlx.nn as nn  # noqa: E402


def on_cpu() -> bool:
    """Whether MLX computes on a CPU here, with neither Metal nor CUDA."""
    return mx.default_device().type == mx.DeviceType.cpu


if on_cpu():
    # graphs of several streams are then worked on in turns, and not one after the other (steering_core/engine/lanes.py)
    os.environ.setdefault("MLX_BFS_MAX_WIDTH", "1000")


def warn_if_slow() -> None:
    """Say, once a process, what to install where MLX has no tuned BLAS."""
    global _warned
    if not _warned and blas is None and on_cpu() and platform.system() == "Linux":
        log.warning(_ADVICE)
    _warned = True


_warned = False

__all__ = ["blas", "mx", "nn", "on_cpu", "warn_if_slow"]
