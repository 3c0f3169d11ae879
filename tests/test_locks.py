"""Locks between processes: who waits is told for whom."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steering_core.foundation import locks
from steering_core.foundation.locks import locked

HOLD = """
import pathlib, sys
from steering_core.foundation.locks import locked
with locked(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock until it is written a line."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "locks" / "table")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process


def waited(path: Path, holder: subprocess.Popen[str], told: pytest.LogCaptureFixture) -> str:
    """What somebody is told who waits for the lock until the holder lets it go."""

    def take() -> None:
        with locked(path):
            pass

    with told.at_level(logging.INFO, "steering_core.foundation.locks"):
        waiting = threading.Thread(target=take)
        waiting.start()
        until = time.monotonic() + 30
        while not told.messages and time.monotonic() < until:
            time.sleep(0.01)
        assert waiting.is_alive()
        holder.communicate("\n")
        waiting.join(30)
        assert not waiting.is_alive()
    (said,) = told.messages
    return said


@pytest.mark.skipif(not Path("/proc/locks").exists(), reason="only Linux tells who holds a lock")
def test_who_waits_is_told_for_which_process(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture
) -> None:
    said = waited(tmp_path / "locks" / "table", holder, caplog)
    assert said.startswith(f"process {holder.pid} ({sys.executable} -c")
    assert said.endswith(f"is using {tmp_path / 'table'}; waiting until it is done")


def test_elsewhere_another_process_is_waited_for(
    tmp_path: Path, holder: subprocess.Popen[str], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "HELD_LOCKS", tmp_path / "not there")
    said = waited(tmp_path / "locks" / "table", holder, caplog)
    assert said == f"another process is using {tmp_path / 'table'}; waiting until it is done"


@pytest.mark.parametrize("own", [True, False], ids=["a file under another device", "another file of that number"])
def test_a_lock_on_another_device_is_told_only_of_who_has_the_file_open(
    tmp_path: Path,
    holder: subprocess.Popen[str],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    own: bool,
) -> None:
    path = tmp_path / "locks" / "table"
    process = holder.pid if own else 2**22  # beyond the greatest there can be
    listed = f"1: FLOCK  ADVISORY  WRITE {process} ff:ff:{path.stat().st_ino} 0 EOF\n"
    monkeypatch.setattr(locks, "HELD_LOCKS", tmp_path / "held")
    (tmp_path / "held").write_text(listed)
    said = waited(path, holder, caplog)
    assert said.startswith(f"process {holder.pid} (" if own else "another process is using")
