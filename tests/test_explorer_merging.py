"""Files that are merged while somebody asks: the question is answered whole, and no append waits for it."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from steering_core.explorer.ask import Ask
from steering_core.store import Store, upkeep
from steering_core.store.merging import MANY
from tests.explorer import SLOW, named

N = MANY - 1  # files: the next append merges them
"""A second or two of counting before the first of the store's files is opened: they are listed, and then read."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with one model in each of `N` files."""
    store = Store(tmp_path / "store")
    for i in range(N):
        store.append("models", [named(i)])
    return store


@pytest.fixture
def ask(store: Store) -> Iterator[Ask]:
    ask = Ask(store, seconds=60.0)
    ask.answer("SELECT 1")  # the process is ready
    yield ask
    ask.close()


def counted_by_the_box(ask: Ask) -> int:
    return int(ask.answer(SLOW).rows["n"][0].as_py())


def counted_by_the_page(ask: Ask) -> int:
    return int(ask.own(SLOW)["n"][0].as_py())


def model_files(store: Store) -> int:
    return len(upkeep.file_names(store, "models"))


WAYS = pytest.mark.parametrize("counted", [counted_by_the_page, counted_by_the_box])


class Asked:
    """A question on a thread of its own, in the middle of which the `with` runs."""

    def __init__(self, counted: Callable[[Ask], int], ask: Ask) -> None:
        self.answers: list[int | Exception] = []
        self._thread = threading.Thread(target=self._run, args=(counted, ask))

    def _run(self, counted: Callable[[Ask], int], ask: Ask) -> None:
        try:
            self.answers.append(counted(ask))
        except Exception as error:  # noqa: BLE001  (compared by the test)
            self.answers.append(error)

    def __enter__(self) -> "Asked":
        self._thread.start()
        time.sleep(0.3)
        assert self._thread.is_alive()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join()


@WAYS
def test_a_compaction_waits_for_a_question(store: Store, ask: Ask, counted: Callable[[Ask], int]) -> None:
    with Asked(counted, ask) as asked:
        upkeep.compact(store)
    assert asked.answers == [N]
    assert model_files(store) == 1


@WAYS
def test_an_append_does_not_wait_for_a_question_to_merge(store: Store, ask: Ask, counted: Callable[[Ask], int]) -> None:
    with Asked(counted, ask) as asked:
        store.append("models", [named(N)])
        Store(store.root)
        assert asked.answers == []  # it still runs
        assert model_files(store) == N + 1
    assert asked.answers == [N]
    store.append("models", [named(N + 1)])
    assert model_files(store) == 1
    assert counted(ask) == N + 2
