"""SQL that would take all memory or all day: refused within bounds, while the page's own queries go on."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from steering_core.explorer.ask import Ask
from steering_core.explorer.children import AT_ONCE, WAITING, Child
from steering_core.explorer.queue import Busy
from steering_core.explorer.resident import held_by
from steering_core.foundation.errors import QueryError
from steering_core.store import Store
from tests.watchdog import watchdog

MEMORY = 512 << 20
SECONDS = 2.0
SLACK = 2.0  # seconds that a busy machine may add to a bound
MOST = 1 << 30  # bytes, for the watchdog

TAKES_MEMORY = [
    "SELECT len(range(1_000_000_000))",
    "SELECT list_aggregate(range(1_000_000_000), 'sum')",
    "SELECT list_sort(range(500_000_000))",
    "SELECT len(repeat(repeat('x', 60_000), 60_000))",
    "SELECT md5(repeat(repeat('x', 60_000), 60_000))",
    "SELECT len(lpad('x', 2_000_000_000, 'y'))",
    "SELECT len(format('{:>2000000000}', 'x'))",
    "SELECT bit_count(bitstring('1', 1_900_000_000))",
    "SELECT list_resize([1], 2_000_000_000)",
    "SELECT string_agg(repeat('x', 1_000_000), '') FROM range(4_000)",
    "SELECT list(a.range) FROM range(1_000_000_000) a",
    "SELECT histogram(a.range) FROM range(1_000_000_000) a",
    "WITH RECURSIVE r AS (SELECT 'x' AS t UNION ALL SELECT t || t FROM r) SELECT max(len(t)) FROM r",
    "SELECT a.range, count(*) FROM range(1_000_000_000) a GROUP BY ALL",
    "SELECT * FROM range(1_000_000_000) a ORDER BY hash(range)",
]
TAKES_TIME = [
    "SELECT count(*) FROM range(1_000_000_000) WHERE hash(md5(range::VARCHAR)) = 3",
    "SELECT levenshtein(repeat('ab', 200_000), repeat('ba', 200_000))",
    "SELECT sum(levenshtein(repeat('ab', 5_000) || range, repeat('ba', 5_000))) FROM range(1_000)",
    "SELECT sum(damerau_levenshtein(repeat('ab', 1_000) || range, repeat('ba', 1_000))) FROM range(1_000)",
    "SELECT sum(len(regexp_replace(repeat('a,', 5_000) || range, '(.*?,){11}P', 'x', 'g'))) FROM range(1_000_000)",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT 1 FROM r) SELECT count(*) FROM r",
    "SELECT sum(sin(range)) FROM range(100_000_000_000)",
]
TOO_DEEP = [
    "FROM (" * 1_200 + "SELECT 1" + ")" * 1_200,
    "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "SELECT " + "(SELECT " * 2_000 + "1" + ")" * 2_000,
    "SELECT " + "-" * 3_000 + "1",
    "SELECT " + "1 + " * 4_900 + "1",
    "SELECT " + "[" * 5_000 + "1" + "]" * 5_000,
    "SELECT json('" + "[" * 9_000 + "]" * 9_000 + "')",
    "SELECT 1 " + "UNION ALL SELECT 1 " * 1_000,
]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    ask = Ask(Store(tmp_path_factory.mktemp("bombs") / "store"), seconds=SECONDS, memory=MEMORY)
    yield ask
    ask.close()


def ready(asked: Ask) -> None:
    """Wait for a process that answers, so that its start does not count as the next question's time."""
    assert asked.answer("SELECT 1 AS one").rows["one"].to_pylist() == [1]


@pytest.mark.parametrize("sql", TAKES_MEMORY)
def test_what_takes_much_memory_is_refused_within_bounds(asked: Ask, sql: str) -> None:
    with watchdog(MOST) as watched:
        ready(asked)
        started = time.monotonic()
        with pytest.raises(QueryError, match=r"needs more than 512 MB of memory|stopped after 2 s|ended the process"):
            asked.answer(sql)
        assert time.monotonic() - started < SECONDS + SLACK
        ready(asked)
    assert watched.peak < MEMORY + (384 << 20), f"{watched.peak >> 20} MiB"


@pytest.mark.parametrize("sql", TAKES_TIME)
def test_what_takes_long_is_stopped_in_time(asked: Ask, sql: str) -> None:
    with watchdog(MOST):
        ready(asked)
        started = time.monotonic()
        with pytest.raises(QueryError, match="stopped after 2 s: narrow the query, or use `steer sql`"):
            asked.answer(sql)
        assert time.monotonic() - started < SECONDS + SLACK
        ready(asked)


@pytest.mark.parametrize("sql", TOO_DEEP, ids=lambda sql: sql[:24])
def test_what_is_nested_deeply_is_answered_or_refused_in_one_paragraph(asked: Ask, sql: str) -> None:
    with watchdog(MOST):
        ready(asked)
        try:
            said = str(asked.answer(sql).rows.num_rows)
        except QueryError as error:
            said = str(error)
        assert said
        assert "\n\n" not in said
        assert len(said) < 2_100
        ready(asked)


@pytest.mark.parametrize("sql", TOO_DEEP[:4], ids=lambda sql: sql[:24])
def test_steer_sql_says_too_what_is_nested_too_deeply(tmp_path: Path, sql: str) -> None:
    with pytest.raises(QueryError, match=r"nested too deeply|SELECT clause without selection list"):
        Store(tmp_path / "store").answer(sql)


def test_the_pages_own_queries_do_not_wait_for_strangers(asked: Ask) -> None:
    """All turns are taken by what no interrupt stops."""

    def ask() -> None:
        with pytest.raises((QueryError, Busy)):
            asked.answer("SELECT levenshtein(repeat('ab', 200_000), repeat('ba', 200_000))")

    with watchdog(MOST):
        ready(asked)
        threads = [threading.Thread(target=ask) for _ in range(AT_ONCE + 2)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        started = time.monotonic()
        assert asked.own("SELECT count(*) AS n FROM models")["n"].to_pylist() == [0]
        assert time.monotonic() - started < 1.0
        for thread in threads:
            thread.join()


def test_those_who_come_when_many_wait_are_told_at_once(asked: Ask) -> None:
    told: list[float] = []

    def ask() -> None:
        started = time.monotonic()
        try:
            asked.answer("SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE hash(a.range) = 3")
        except Busy:
            told.append(time.monotonic() - started)
        except QueryError:
            pass

    with watchdog(MOST):
        ready(asked)
        threads = [threading.Thread(target=ask) for _ in range(AT_ONCE + WAITING + 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ready(asked)
    assert sum(waited < 1.0 for waited in told) >= 5
    assert max(told) < SECONDS + SLACK, "nobody waits longer than a question may take"


def test_a_process_is_killed_by_its_size_where_the_system_does_not_limit_it(tmp_path: Path) -> None:
    """macOS enforces no RLIMIT_AS: here the limit lies at 4 GB, so that the watch alone stops the query."""
    store = Store(tmp_path / "store")
    with watchdog(2 << 30):
        child = Child(str(store.root), 4 << 30, 20.0)
        assert child.ask("SELECT 1", 1, "json")[0].kind == "answer"
        child._memory = 64 << 20
        with pytest.raises(QueryError, match="needs more than 64 MB of memory"):
            child.ask("SELECT len(string_agg(repeat('x', 1_000_000), '')) FROM range(4_000)", 1, "json")
        assert not child.fit
        child.end()


def test_an_answer_beyond_the_bound_is_refused_before_it_is_sent(asked: Ask) -> None:
    with watchdog(MOST), pytest.raises(QueryError, match=r"the answer is 8\d MiB: ask for fewer columns or rows"):
        asked.answer("SELECT range FROM range(10_500_000)", max_rows=10_500_000)


def test_closing_ends_every_process_in_the_middle_of_a_question(tmp_path: Path) -> None:
    asked = Ask(Store(tmp_path / "store"), seconds=30.0, memory=MEMORY)
    ready(asked)
    (child,) = asked._children._all
    failed: list[str] = []

    def ask() -> None:
        try:
            asked.answer("SELECT count(*) FROM range(1000000000) a, range(1000000000) b WHERE hash(a.range) = 3")
        except QueryError as error:
            failed.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.5)
    asked.close()
    thread.join(5)
    assert not thread.is_alive()
    assert failed
    assert not child.fit
    assert not asked._children._all


_SERVER = """
import sys, threading, time
from steering_core.explorer.ask import Ask
from steering_core.store import Store
asked = Ask(Store(sys.argv[1]), seconds=2.0)
asked.answer("SELECT 1")
threading.Thread(target=asked.answer, args=(sys.argv[2],), daemon=True).start()
time.sleep(0.3)
print(asked._children._all.pop()._process.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("sql", ["SELECT 1", "SELECT levenshtein(repeat('ab', 200_000), repeat('ba', 200_000))"])
def test_a_process_ends_where_its_server_was_killed(tmp_path: Path, sql: str) -> None:
    """Idle it sees the other side close; in the middle of a question its own time runs out."""
    server = subprocess.Popen([sys.executable, "-c", _SERVER, str(tmp_path / "store"), sql], stdout=subprocess.PIPE)
    assert server.stdout is not None
    pid = int(server.stdout.readline())
    assert held_by(pid) > 0
    server.kill()
    server.wait()
    deadline = time.monotonic() + 60
    while held_by(pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not held_by(pid)


def test_a_process_that_refuses_its_store_takes_no_other_question(tmp_path: Path) -> None:
    child = Child(str(tmp_path / "nowhere"), MEMORY, SECONDS)
    with pytest.raises(QueryError, match="nowhere"):
        child.ask("SELECT 1", 1, "json")
    assert not child.fit, "the next question would be told that it ended the process"
    child.end()
