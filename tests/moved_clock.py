"""A clock that is ahead: a library for LD_PRELOAD that moves the time of day of every program, and no monotonic clock.

faketime moves sleeps as well, so that Python 3.11's never end.
"""

import shutil
import subprocess
from pathlib import Path

COMPILER = shutil.which("cc") or shutil.which("gcc")
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>

static long ahead(void) {
    static long seconds = -1;
    if (seconds < 0) { const char *said = getenv("SECONDS_AHEAD"); seconds = said ? atol(said) : 0; }
    return seconds;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(clock, at);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) at->tv_sec += ahead();
    return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
"""


def moved_clock(folder: Path, seconds: float) -> dict[str, str]:
    """The environment in which programs think that it is so many seconds later; the library is compiled in `folder`."""
    library = folder / "ahead.so"
    if not library.exists():
        (folder / "ahead.c").write_text(SOURCE)
        assert COMPILER is not None, "moving the clock needs a C compiler"
        command = [COMPILER, "-shared", "-fPIC", "-O2", "-o", str(library), str(folder / "ahead.c"), "-ldl"]
        subprocess.run(command, check=True)
    return {"LD_PRELOAD": str(library), "SECONDS_AHEAD": f"{seconds:.0f}"}
