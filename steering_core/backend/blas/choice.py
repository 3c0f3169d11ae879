"""The choice of a BLAS: kept in the cache folder for this machine and these libraries, and loaded."""

import contextlib
import ctypes
import fcntl
import json
import logging
import os
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from steering_core.backend.blas.candidates import (
    CORE_TYPE,
    FORCED,
    OPENBLAS,
    Candidate,
    candidates,
    processor,
    stamps,
    usable_cores,
)
from steering_core.backend.blas.threads import remember
from steering_core.backend.blas.timings import THREAD_VARIABLES, best_threads, idle, measured
from steering_core.foundation.cache import cache_folder, keep_json
from steering_core.foundation.keys import content_key

log = logging.getLogger(__name__)

VERSION = 1  # raised when candidates are found or measured differently
_SECONDS = 10.0  # that another process may hold the lock


@dataclass(frozen=True)
class BlasChoice:
    """The measured candidates, the best first, and on how many threads the best one multiplies fastest.

    `threads` is None until a process starts while the machine is idle enough to measure it. Until then all usable cores
    are used.
    """

    ranking: tuple[Candidate, ...]
    threads: int | None = None


def load_blas() -> Candidate | None:
    """The BLAS now loaded into the global symbol space; None where none is needed, wanted or usable."""
    if platform.system() != "Linux" or "mlx.core" in sys.modules or os.environ.get(FORCED) == "none":
        return None
    choice = chosen()
    for candidate in choice.ranking:
        if candidate.seconds is not None and _load(candidate, choice.threads or usable_cores()):
            return candidate
    if os.environ.get(FORCED):
        wrong = "; ".join(sorted({f"{candidate.library}: {candidate.said}" for candidate in choice.ranking}))
        log.warning("%s=%s: none can be used: %s", FORCED, os.environ[FORCED], wrong)
    return None


def chosen(again: bool = False) -> BlasChoice:
    """The kept choice for this machine, these libraries and this environment; measured where there is none yet.

    With `again` it is measured whatever is kept.
    """
    found, forced = candidates(os.environ), os.environ.get(FORCED)
    if forced and not found:
        log.warning("%s=%s: there is no such BLAS here; say openblas, mkl, none or a library's path", FORCED, forced)
        found = candidates({k: v for k, v in os.environ.items() if k != FORCED})
    kept = _kept(found)
    if not again and (choice := _read(kept)) and (choice.threads or not idle()):
        return choice
    with _held(kept):
        choice = None if again else _read(kept)  # another process may have measured meanwhile
        if choice is None:
            choice = BlasChoice(measured(found))
        if not any(candidate.seconds for candidate in choice.ranking):
            return choice  # not kept: the key would not change when a usable BLAS is installed
        if choice.threads is None and idle():
            choice = replace(choice, threads=best_threads(choice.ranking[0]))
        _keep(kept, choice)
    return choice


def _kept(found: Sequence[Candidate]) -> Path:
    """Where the choice between these candidates is kept, on this processor and with as many cores."""
    name, flags = processor()
    return _folder() / f"{content_key(VERSION, name, sorted(flags), usable_cores(), stamps(found))}.json"


def _folder() -> Path:
    try:
        return cache_folder() / "blas"
    except RuntimeError:  # a user without a home
        return Path("/nonexistent")


def _read(path: Path) -> BlasChoice | None:
    """The choice in a file; None where there is none that can be read."""
    try:
        found = json.loads(path.read_text())
        return BlasChoice(tuple(Candidate(**one) for one in found["ranking"]), found["threads"])
    except (OSError, ValueError, TypeError, KeyError):  # not there, or not ours: it is measured anew
        return None


def _keep(path: Path, choice: BlasChoice) -> None:
    """Write the choice, whole or not at all; a folder that cannot be written is warned of."""
    try:
        keep_json(path, asdict(choice))
    except OSError as error:
        log.warning("the measured BLAS cannot be kept, so every start measures: %s", error)


@contextlib.contextmanager
def _held(kept: Path) -> Iterator[None]:
    """Hold a lock while measuring; after ten seconds, or where there can be no lock, go on without it."""
    with contextlib.ExitStack() as stack:
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(kept.with_suffix(".lock").open("a"))
        except OSError:  # `_keep` says so
            yield
            return
        until = time.monotonic() + _SECONDS
        while time.monotonic() < until:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:  # another process is measuring
                time.sleep(0.05)
        yield


def _load(candidate: Candidate, threads: int) -> bool:
    """Load a candidate for all that is loaded after it; whether that could be done.

    The environment is as before afterwards: NumPy's own OpenBLAS and child processes choose for themselves.
    """
    before = os.environ.get(CORE_TYPE)
    if candidate.core_type:
        os.environ[CORE_TYPE] = candidate.core_type
    try:
        library = ctypes.CDLL(candidate.library, mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        log.warning("%s was measured and now cannot be loaded: %s", candidate.library, error)
        return False
    finally:
        if before is None:
            os.environ.pop(CORE_TYPE, None)
        else:
            os.environ[CORE_TYPE] = before
    set_by_user = any(os.environ.get(name) for name in THREAD_VARIABLES)
    remember(library, None if set_by_user else threads)
    return True


def described(choice: BlasChoice) -> str:
    """The measured candidates, the best first, as lines of text."""
    lines = [f"{'ms':>8}  {'kernels':16}library"]
    for candidate in choice.ranking:
        time_of = "unusable" if candidate.seconds is None else f"{1000 * candidate.seconds:.2f}"
        kernels = candidate.core_type or "its own choice"
        said = f"  ({candidate.said})" if candidate.said else ""
        lines.append(f"{time_of:>8}  {kernels if candidate.kind == OPENBLAS else '':16}{candidate.library}{said}")
    threads = choice.threads or f"{usable_cores()}, as there are cores: the machine was never idle enough to measure"
    return "\n".join([*lines, f"threads: {threads}"])
