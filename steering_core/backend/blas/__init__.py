"""Which BLAS multiplies for MLX on this machine: measured once, kept in the cache folder, loaded before `mlx.core`.

Each library that is found, with each set of kernels that suits the processor, is tried in a process of its own
(`trial`). What multiplies wrongly, fails or dies is not chosen; of the rest the one with the least CPU time is,
and then the number of threads. `STEERFLOW_BLAS` narrows the choice and OPENBLAS_CORETYPE fixes OpenBLAS's kernels
(docs/decisions/0002-blas.md).
"""

from steering_core.backend.blas.candidates import Candidate, usable_cores
from steering_core.backend.blas.choice import BlasChoice, chosen, described, load_blas
from steering_core.backend.blas.threads import limited_threads

__all__ = ["BlasChoice", "Candidate", "chosen", "described", "limited_threads", "load_blas", "usable_cores"]
