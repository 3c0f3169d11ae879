"""How much memory a process holds, as the operating system counts it."""

import ctypes
import os
import sys
from pathlib import Path

_PAGE = os.sysconf("SC_PAGE_SIZE")


def address_space() -> int | None:
    """Bytes of this process's address space, where RLIMIT_AS is enforced (Linux); else None."""
    return _statm("self", 0) if sys.platform == "linux" else None


def held_by(pid: int) -> int:
    """Bytes of memory that process `pid` holds; 0 where it is gone or the system does not say."""
    if sys.platform == "linux":
        return _statm(str(pid), 1)
    return _footprint(pid) if sys.platform == "darwin" else 0


def _statm(process: str, field: int) -> int:
    """A field of /proc/PID/statm: 0 is the address space, 1 what of it is in memory."""
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[field]) * _PAGE
    except (OSError, IndexError):  # it has ended
        return 0


class _Usage(ctypes.Structure):
    """`rusage_info_v0` of <sys/resource.h>."""

    _fields_ = [
        ("uuid", ctypes.c_uint8 * 16),
        *((name, ctypes.c_uint64) for name in ("user", "system", "idle_wakeups", "interrupt_wakeups", "page_ins")),
        *((name, ctypes.c_uint64) for name in ("wired", "resident", "footprint", "started", "ended")),
    ]


def _footprint(pid: int) -> int:
    """What macOS's own memory limits count: resident and compressed pages. Text that repeats compresses to nothing."""
    usage = _Usage()
    system = ctypes.CDLL("/usr/lib/libproc.dylib")
    found = system.proc_pid_rusage(ctypes.c_int(pid), ctypes.c_int(0), ctypes.byref(usage))
    return int(usage.footprint) if found == 0 else 0
