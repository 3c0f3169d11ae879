"""Threads: on how many cores the loaded BLAS multiplies, whichever of the process's threads asks it to.

MLX multiplies in threads of its own. threadpoolctl sets MKL's number for the calling thread alone, and those threads
would go on with as many as before.
"""

import contextlib
import ctypes
from collections.abc import Callable, Iterator

_CALLS = (("openblas_set_num_threads", "openblas_get_num_threads"), ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads"))


class BlasThreads:
    """The thread count of one loaded library. `usual` is its count outside of `limited`, None where it has no call."""

    def __init__(self, library: ctypes.CDLL) -> None:
        calls = [(s, g) for s, g in _CALLS if hasattr(library, s) and hasattr(library, g)]
        self._set: Callable[[int], None] | None = getattr(library, calls[0][0]) if calls else None
        self._get: Callable[[], int] | None = getattr(library, calls[0][1]) if calls else None
        self.usual = self.now()

    def now(self) -> int | None:
        """On how many threads the library multiplies for the thread that asks."""
        return self._get() if self._get else None

    def use(self, threads: int) -> None:
        """Multiply on that many threads from now on."""
        if self._set:
            self._set(threads)
            self.usual = threads

    @contextlib.contextmanager
    def limited(self, threads: int) -> Iterator[None]:
        """Multiply on at most that many threads inside the `with`."""
        if self._set is None or self.usual is None:
            yield
            return
        self._set(min(threads, self.usual))
        try:
            yield
        finally:
            self._set(self.usual)


_loaded: list[BlasThreads] = []  # of the library that `load_blas` loaded


def remember(library: ctypes.CDLL, threads: int | None) -> None:
    """Have this library multiply on that many threads (None: as it does), and `limited_threads` act on it."""
    found = BlasThreads(library)
    if threads is not None:
        found.use(threads)
    _loaded[:] = [found]


def limited_threads(threads: int) -> contextlib.AbstractContextManager[None]:
    """Have the loaded BLAS multiply on at most that many threads inside the `with`; nothing is done without one."""
    return _loaded[0].limited(threads) if _loaded else contextlib.nullcontext()
