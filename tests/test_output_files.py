"""Files and folders that are written beside their place: whole or absent, and nothing unfinished stays for good."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from steering_core.foundation.errors import OutputError
from steering_core.foundation.output_files import new_file, new_folder, write_text


def ended() -> int:
    """The number of a process that has ended."""
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    return done.pid


@pytest.mark.parametrize("process", [ended, os.getpid, lambda: 10**30], ids=["ended", "own", "none"])
def test_what_a_killed_process_left_goes_with_the_next_write(process: Callable[[], int], tmp_path: Path) -> None:
    pid = process()
    (tmp_path / f".{pid}-out.csv").write_text("half")
    (tmp_path / f".out.unfinished-{pid}").mkdir()
    (tmp_path / f".out.unfinished-{pid}" / "half").write_text("half")
    write_text(tmp_path / "out.csv", "whole", OutputError)
    with new_folder(tmp_path / "out", OutputError) as folder:
        (folder / "whole").write_text("whole")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "out.csv", "whole"]


def test_what_another_process_is_writing_stays_and_so_do_files_of_other_names(tmp_path: Path) -> None:
    names = {
        f".{os.getppid()}-out.csv",
        ".123-another.csv",
        ".x-out.csv",
        f"{ended()}-out.csv",
        f".{ended()}-out.csv.x",
    }
    for name in names:
        (tmp_path / name).write_text("theirs")
    (tmp_path / f".out.unfinished-{os.getppid()}").mkdir()
    write_text(tmp_path / "out.csv", "whole", OutputError)
    with new_folder(tmp_path / "out", OutputError):
        pass
    left = {"out", "out.csv", f".out.unfinished-{os.getppid()}"}
    assert {path.name for path in tmp_path.iterdir()} == names | left


def test_a_file_that_fails_leaves_the_older_one_and_nothing_else(tmp_path: Path) -> None:
    def half() -> None:
        with new_file(tmp_path / "out.csv", OutputError) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    (tmp_path / "out.csv").write_text("older")
    with pytest.raises(ZeroDivisionError):
        half()
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    assert (tmp_path / "out.csv").read_text() == "older"
