"""The BLAS is chosen by measuring, and nothing that goes wrong with a candidate is more than a candidate lost."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from steering_core.backend.blas import candidates as found
from steering_core.backend.blas import choice, timings
from steering_core.backend.blas.candidates import Candidate, candidates
from steering_core.backend.blas.choice import BlasChoice, chosen, load_blas
from steering_core.backend.blas.threads import BlasThreads
from tests.blas import LINUX, two_libraries  # noqa: F401  (a fixture)

pytestmark = pytest.mark.usefixtures("two_libraries")

GOOD = {"right": True, "seconds": 0.002, "kernels": "Good"}


def probed(monkeypatch: pytest.MonkeyPatch, answer: Callable[[Candidate, int], Any]) -> list[Candidate]:
    """Have the probe answer so; the candidates that were probed."""
    asked: list[Candidate] = []

    def fake(candidate: Candidate, threads: int, *how: str) -> Any:
        asked.append(candidate)
        return answer(candidate, threads)

    monkeypatch.setattr(timings, "_trial", fake)
    return asked


# -- what is tried -----------------------------------------------------------------------------------------------------


def tried(environment: dict[str, str]) -> list[tuple[str, str | None]]:
    return [(candidate.kind, candidate.core_type) for candidate in candidates(environment)]


def test_kernels_that_suit_the_processor_are_tried(tmp_path: Path) -> None:
    everything = [("openblas", None), ("openblas", "SKYLAKEX"), ("openblas", "HASWELL"), ("mkl", None)]
    assert tried({}) == everything
    assert tried({"OPENBLAS_CORETYPE": ""}) == everything


def test_the_environment_narrows_the_choice(tmp_path: Path) -> None:
    assert tried({"OPENBLAS_CORETYPE": "ZEN"}) == [("openblas", "ZEN")]
    assert tried({"STEERFLOW_BLAS": "mkl"}) == [("mkl", None)]
    assert tried({"STEERFLOW_BLAS": "openblas:HASWELL"}) == [("openblas", "HASWELL")]
    assert tried({"STEERFLOW_BLAS": "openblas:HASWELL", "OPENBLAS_CORETYPE": "ZEN"}) == [("openblas", "HASWELL")]
    assert tried({"STEERFLOW_BLAS": "nonsense"}) == []
    path = str(tmp_path / "libmkl_rt.so.3")
    assert candidates({"STEERFLOW_BLAS": path}) == [Candidate(path)]
    assert candidates({"STEERFLOW_BLAS": f"{path}.not"}) == []


def test_mkl_stays_where_the_kernels_of_a_missing_openblas_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(found, "libraries", lambda kind, _: ["libmkl_rt.so.3"] if kind == "mkl" else [])
    assert tried({"OPENBLAS_CORETYPE": "ZEN"}) == [("mkl", None)]


@pytest.mark.parametrize(("quota", "cores"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", 64)])
def test_cores_are_those_that_the_control_group_pays_for(
    quota: str, cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota}\n")
    monkeypatch.setattr(found, "QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    assert found.usable_cores() == cores


# -- the choice --------------------------------------------------------------------------------------------------------


def test_the_fastest_that_multiplies_rightly_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        None: {"right": False, "seconds": 0.001, "kernels": "Prescott"},
        "SKYLAKEX": {"right": True, "seconds": 0.003, "kernels": "SkylakeX"},
        "HASWELL": "ended by signal 4",
    }
    asked = probed(monkeypatch, lambda c, _: GOOD if c.kind == "mkl" else answers[c.core_type])
    ranking = timings.measured(candidates({}))
    assert [(c.kind, c.core_type, c.seconds) for c in ranking[:2]] == [
        ("mkl", None, 0.002),
        ("openblas", "SKYLAKEX", 0.003),
    ]
    assert {c.said for c in ranking[2:]} == {"multiplies wrongly Prescott", "ended by signal 4"}
    assert all(c.seconds is None for c in ranking[2:])
    assert len(asked) == 4 + 1  # what is close to the best is measured again: here itself


def test_it_is_measured_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = probed(monkeypatch, lambda *_: GOOD)
    monkeypatch.setattr(choice, "idle", lambda: True)
    first = chosen()
    n = len(asked)
    assert chosen() == first
    assert len(asked) == n > 0
    assert chosen(again=True) == first
    assert len(asked) == 2 * n


@pytest.mark.parametrize("content", ["", "{", "[]", '{"ranking": [{"colour": 1}], "threads": 2}', '{"threads": 2}'])
def test_a_damaged_choice_is_measured_anew(content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    probed(monkeypatch, lambda *_: GOOD)
    monkeypatch.setattr(choice, "idle", lambda: True)
    first = chosen()
    (kept,) = choice._folder().glob("*.json")
    kept.write_text(content)
    assert chosen() == first
    assert json.loads(kept.read_text())["threads"] == first.threads


def test_nothing_usable_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    probed(monkeypatch, lambda *_: "cannot open shared object file")
    assert not any(candidate.seconds for candidate in chosen().ranking)
    probed(monkeypatch, lambda *_: GOOD)
    assert chosen().ranking[0].seconds == GOOD["seconds"]


def test_another_library_is_measured_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = probed(monkeypatch, lambda *_: GOOD)
    chosen()
    n = len(asked)
    (tmp_path / "libmkl_rt.so.3").write_bytes(b"a new version")
    chosen()
    assert len(asked) > n


def test_threads_are_measured_when_the_machine_is_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timings, "usable_cores", lambda: 8)
    clock = {8: 0.004, 4: 0.002, 2: 0.0019, 1: 0.005}
    probed(monkeypatch, lambda _, threads: {**GOOD, "seconds": clock[threads]})
    monkeypatch.setattr(choice, "idle", lambda: False)
    busy = chosen()
    assert busy.threads is None
    monkeypatch.setattr(choice, "idle", lambda: True)
    assert chosen() == BlasChoice(busy.ranking, 4)  # two are not clearly faster
    monkeypatch.setattr(choice, "idle", lambda: False)
    assert chosen() == BlasChoice(busy.ranking, 4)


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path / "file"))
    probed(monkeypatch, lambda *_: GOOD)
    assert chosen().ranking[0].seconds == GOOD["seconds"]


def test_what_cannot_be_loaded_after_all_gives_way_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "sys", type("", (), {"modules": {}}))
    monkeypatch.setattr(choice.platform, "system", lambda: "Linux")
    probed(monkeypatch, lambda *_: GOOD)
    seen: list[str | None] = []

    def load(path: str, mode: int) -> object:
        seen.append(os.environ.get("OPENBLAS_CORETYPE"))
        if len(seen) < 2:
            raise OSError("its requirements are gone")
        return object()

    monkeypatch.setattr(choice.ctypes, "CDLL", load)
    monkeypatch.setattr(choice, "remember", lambda *_: None)
    loaded = load_blas()
    assert loaded == chosen().ranking[1]
    assert seen == [c.core_type for c in chosen().ranking[:2]]
    assert "OPENBLAS_CORETYPE" not in os.environ


# -- threads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("setter", ["openblas_set_num_threads", "MKL_Set_Num_Threads"])
def test_threads_are_limited_and_then_as_before(setter: str) -> None:
    asked: list[int] = []
    getter = {"openblas_set_num_threads": "openblas_get_num_threads"}.get(setter, "MKL_Get_Max_Threads")
    library = type("", (), {setter: lambda _, n: asked.append(n), getter: lambda _: 8})()
    found = BlasThreads(library)
    with found.limited(2):
        assert asked == [2]
    with found.limited(16):  # never more than usual
        pass
    found.use(4)
    with found.limited(6):
        pass
    assert asked == [2, 8, 8, 8, 4, 4, 4]


def test_a_library_that_tells_no_threads_is_left_as_it_is() -> None:
    found = BlasThreads(type("", (), {})())
    found.use(2)
    with found.limited(1):
        assert found.usual is None


LIMITED = """
import threading
import steering_core.backend.mlx
from steering_core.backend.blas import limited_threads, threads
def seen():
    found = []
    other = threading.Thread(target=lambda: found.append(threads._loaded[0].now()))
    other.start()
    other.join()
    return found[0]
if threads._loaded and threads._loaded[0].usual:
    threads._loaded[0].use(2)
    before = seen()
    with limited_threads(1):
        print(before, seen(), end=" ")
    print(seen())
"""


@LINUX
def test_a_limit_holds_in_threads_that_did_not_set_it() -> None:
    own = {name: value for name, value in os.environ.items() if name != "STEERFLOW_CACHE"}
    done = subprocess.run([sys.executable, "-c", LIMITED], env=own, capture_output=True, text=True, check=True)
    assert done.stdout.split() in ([], ["2", "1", "2"])


# -- processes ---------------------------------------------------------------------------------------------------------

MEASURING = """
import sys, time
from pathlib import Path
from steering_core.backend.blas import choice
from steering_core.backend.blas.candidates import Candidate
def measured(found):
    with Path(sys.argv[1]).open("a") as log:
        log.write("measured\\n")
    time.sleep(float(sys.argv[2]))
    return (Candidate("one", None, 1.0),)
choice.measured, choice.idle = measured, lambda: False
print(choice.chosen().ranking[0].library)
"""


def start(log: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MEASURING, str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_of_several_processes_one_measures(tmp_path: Path) -> None:
    running = [start(tmp_path / "log", 0.5) for _ in range(4)]
    assert [process.communicate()[0] for process in running] == ["one\n"] * 4
    assert (tmp_path / "log").read_text() == "measured\n"


def test_after_a_kill_another_measures(tmp_path: Path) -> None:
    killed = start(tmp_path / "log", 60)
    while not (tmp_path / "log").exists():
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    began = time.monotonic()
    assert start(tmp_path / "log", 0).communicate()[0] == "one\n"
    assert time.monotonic() - began < choice._SECONDS
    assert (tmp_path / "log").read_text() == "measured\n" * 2


def ran(code: str, **changed: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **changed}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)


@LINUX
@pytest.mark.parametrize("forced", ["none", "nonsense", "{}/libmkl_rt.so.3", "{}/nowhere.so"])
def test_an_import_never_fails_and_the_environment_stays(forced: str, tmp_path: Path) -> None:
    code = (
        "import os\nbefore = {**os.environ, 'MLX_BFS_MAX_WIDTH': '1000'}\nfrom steering_core.backend.mlx import mx\n"
        "assert (mx.ones((3, 4)) @ mx.ones((4, 2))).tolist() == [[4, 4]] * 3\n"
        "assert dict(os.environ) == before"
    )
    done = ran(code, STEERFLOW_BLAS=forced.format(tmp_path))
    said = {"none": "", "{}/libmkl_rt.so.3": "none can be used"}.get(forced, "there is no such BLAS")
    assert said in done.stderr
    assert bool(said) == bool(done.stderr)


@LINUX
def test_mlx_that_came_first_is_named() -> None:
    code = "import mlx.core\nfrom steering_core.backend.mlx import warn_if_slow\nwarn_if_slow()\nwarn_if_slow()"
    assert ran(code).stderr.count("import steering_core.backend.mlx first") == 1


def test_choosing_needs_neither_mlx_nor_numpy() -> None:
    code = "import steering_core.backend.blas, sys\nassert not {'mlx', 'numpy'} & set(sys.modules)"
    ran(code)
