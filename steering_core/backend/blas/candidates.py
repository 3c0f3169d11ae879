"""The libraries that are found, with each set of kernels that suits the processor."""

import math
import os
import platform
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORCED, CORE_TYPE = "STEERFLOW_BLAS", "OPENBLAS_CORETYPE"
OPENBLAS, MKL = "openblas", "mkl"
QUOTA = Path("/sys/fs/cgroup/cpu.max")
_NAMES = {
    OPENBLAS: ("libopenblas.so.0", "libopenblasp.so.0", "openblas*/libopenblas.so.0", "libopenblas.so"),
    MKL: ("libmkl_rt.so.3", "libmkl_rt.so.2", "libmkl_rt.so.1", "libmkl_rt.so"),
}
_KERNELS = (  # of OpenBLAS on x86-64, and the flags of /proc/cpuinfo without which they cannot run
    ("SAPPHIRERAPIDS", {"avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512_bf16", "amx_bf16"}),
    ("COOPERLAKE", {"avx512f", "avx512vl", "avx512bw", "avx512dq", "avx512_bf16"}),
    ("SKYLAKEX", {"avx512f", "avx512vl", "avx512bw", "avx512dq"}),
    ("HASWELL", {"avx2", "fma"}),
)


@dataclass(frozen=True)
class Candidate:
    """A library, and the set of OpenBLAS's kernels to use (`core_type`; None: OpenBLAS's own choice).

    `seconds` is what the trial's products take on one thread, None before it is measured, or where the candidate cannot
    be used. `said` is what OpenBLAS calls its kernels, or why the candidate cannot be used.
    """

    library: str
    core_type: str | None = None
    seconds: float | None = None
    said: str = ""

    @property
    def kind(self) -> str:
        """`mkl` or `openblas`."""
        return MKL if "mkl" in Path(self.library).name else OPENBLAS


def usable_cores() -> int:
    """Cores that this process may use: of its affinity, and no more than its control group's quota pays for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = QUOTA.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no control group, or "max"
        return cores


def candidates(environment: Mapping[str, str]) -> list[Candidate]:
    """Every library that is found, with every set of kernels worth trying, the usual ones first.

    Where OPENBLAS_CORETYPE is set it names the kernels, and MKL is tried only where there is no OpenBLAS.
    """
    wanted, _, kernels = environment.get(FORCED, "").partition(":")
    own = kernels or environment.get(CORE_TYPE)
    core_types = [own] if own else [None, *(name for name, needed in _KERNELS if needed <= processor()[1])]
    if "/" in wanted:
        paths = {Candidate(wanted).kind: [wanted] if Path(wanted).exists() else []}
    else:
        paths = {kind: libraries(kind, environment) for kind in _NAMES if wanted in ("", kind)}
    found = [Candidate(path, core_type) for path in paths.get(OPENBLAS, ()) for core_type in core_types]
    return found if found and own else [*found, *(Candidate(path) for path in paths.get(MKL, ()))]


def libraries(kind: str, environment: Mapping[str, str]) -> list[str]:
    """Paths of the different libraries of a kind; the bare name where only the linker may know one."""
    machine = f"/usr/lib/{platform.machine()}-linux-gnu"
    own = [f"{sys.prefix}/lib", f"{sys.base_prefix}/lib"]
    system = ["/usr/local/lib", machine, "/usr/lib64", "/usr/lib", "/opt/intel/oneapi/mkl/latest/lib"]
    folders = [*filter(None, environment.get("LD_LIBRARY_PATH", "").split(":")), *own, *system]
    found = {os.path.realpath(path) for folder in folders for name in _NAMES[kind] for path in Path(folder).glob(name)}
    return sorted(found) or [_NAMES[kind][0]]


def stamps(found: Sequence[Candidate]) -> list[list[Any]]:
    """What tells these candidates from others, and from themselves after an update."""
    stamps: list[list[Any]] = []
    for candidate in found:
        try:
            stat = Path(candidate.library).stat()
            version = [stat.st_size, stat.st_mtime_ns]
        except OSError:  # a bare name, for the linker to find
            version = []
        stamps.append([candidate.library, candidate.core_type, *version])
    return stamps


def processor() -> tuple[str, frozenset[str]]:
    """The processor's name and flags; empty where the kernel does not say."""
    try:
        with Path("/proc/cpuinfo").open() as lines:
            first = dict(_fields(lines))
    except OSError:
        first = {}
    return first.get("model name", platform.machine()), frozenset(first.get("flags", "").split())


def _fields(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Names and values up to the first empty line: those of the first core."""
    for line in lines:
        if not line.strip():
            return
        name, _, value = line.partition(":")
        yield name.strip(), value.strip()
