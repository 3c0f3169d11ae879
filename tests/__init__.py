"""The tests. Each worker of the suite has a core: a BLAS's threads that wait for one another took a fifth of its time.

Set before anything loads a BLAS; processes that tests start inherit it, and what the environment says is kept.
"""

import os

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")
