"""How fast each candidate multiplies here, on how many threads, and whether it does so rightly."""

import json
import logging
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steering_core.backend.blas.candidates import CORE_TYPE, Candidate, usable_cores

log = logging.getLogger(__name__)

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
_CLOSE = 1.3  # candidates within this factor of the best are measured again
_WORTH = 0.9  # fewer threads are taken where they need less than this of the time
_IDLE = 0.25  # of the usable cores, busy with other work
_SECONDS = 10.0  # for one measurement


def measured(found: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """The candidates in the order of their CPU time on one thread, those close to the best measured twice."""
    log.info("measuring once which BLAS multiplies fastest here")
    tried = [_measure(candidate) for candidate in found]
    best = min((c.seconds for c in tried if c.seconds is not None), default=0.0)
    for i, candidate in enumerate(tried):
        if candidate.seconds is not None and candidate.seconds <= _CLOSE * best and len(tried) > 1:
            again = _measure(candidate).seconds
            tried[i] = replace(candidate, seconds=min(candidate.seconds, again or candidate.seconds))
    return tuple(sorted(tried, key=lambda c: float("inf") if c.seconds is None else c.seconds))


def _measure(candidate: Candidate) -> Candidate:
    """The candidate with what one process found: its time on one thread, or what is wrong with it."""
    found = _trial(candidate, 1)
    if isinstance(found, str):
        return replace(candidate, seconds=None, said=found)
    if not found["right"]:
        return replace(candidate, seconds=None, said=f"multiplies wrongly {found['kernels']}".strip())
    return replace(candidate, seconds=found["seconds"], said=found["kernels"])


def best_threads(candidate: Candidate) -> int:
    """As many threads as there are usable cores, or a half, a quarter … where that is clearly faster by the clock.

    Half of them may be faster where two threads share a core, or a virtual machine has fewer real cores than it shows.
    """
    best, least, threads = usable_cores(), float("inf"), usable_cores()
    while threads >= 1:
        found = _trial(candidate, threads, "clock")
        seconds = float("inf") if isinstance(found, str) else float(found["seconds"])
        if seconds < _WORTH * least:
            best, least = threads, seconds
        threads //= 2
    return best


def idle() -> bool:
    """Whether so little else ran in the last minute that the clock can tell how many threads are best."""
    return os.getloadavg()[0] <= _IDLE * usable_cores()


def _trial(candidate: Candidate, threads: int, *how: str) -> dict[str, Any] | str:
    """What `trial.py` reports of the candidate, in a process of its own; a text where it failed, saying how."""
    if not sys.executable or getattr(sys, "frozen", False):  # a bundle: its executable is not Python
        return "not measured: there is no Python to measure with"
    script = str(Path(__file__).with_name("trial.py"))
    command = [sys.executable, "-I", "-S", script, candidate.library, *how]
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    if candidate.core_type:
        environment[CORE_TYPE] = candidate.core_type
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return f"took longer than {_SECONDS:.0f} s"
    except OSError as error:
        return f"cannot be measured: {error}"
    if done.returncode < 0:
        return f"ended by signal {-done.returncode}"
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["failed without a word"])[-1][-200:]
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError):
        return "gave no answer"
