"""MLX, imported once and with a real BLAS behind it: every other module takes `mx` and `nn` from here.

On Linux the CPU build of MLX links the reference BLAS, thirty times slower than a tuned one. Loading OpenBLAS or MKL
into the global symbol space *before* `mlx.core` makes `cblas_sgemm` resolve to it; which one, with which kernels and
threads, `steering_core.backend.blas` has measured (docs/decisions/0002-blas.md).
"""

import logging
import os
import platform
import sys

from steering_core.backend.blas import Candidate, load_blas

log = logging.getLogger(__name__)

_TOO_LATE = (
    "mlx was imported before steering_core, so that it runs on its reference BLAS, many times slower than a tuned one: "
    "import steering_core.backend.mlx first"
)
_ADVICE = (
    "MLX runs on its reference BLAS, many times slower than a tuned one: install OpenBLAS "
    "(Debian, Ubuntu: apt-get install libopenblas0-pthread) or, on x86-64, `pip install mkl`"
)

_late = "mlx.core" in sys.modules
blas: Candidate | None = load_blas()

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
        log.warning(_TOO_LATE if _late else _ADVICE)
    _warned = True


_warned = False

__all__ = ["blas", "mx", "nn", "on_cpu", "warn_if_slow"]
