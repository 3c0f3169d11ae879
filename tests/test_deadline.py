"""Deadlines end code that loops, and leave all other code alone."""

import threading
import time

import pytest

from steering_core.foundation.deadline import DeadlinePassed, deadline


def test_code_that_loops_is_ended_even_where_it_catches_everything() -> None:
    begun = time.monotonic()
    with pytest.raises(DeadlinePassed), deadline(0.2):
        _loop()
    assert time.monotonic() - begun < 5


def _loop() -> None:
    while True:
        try:
            sum(range(100))
        except Exception:  # noqa: BLE001  (what code of others may do)
            continue


def test_code_that_ends_in_time_hears_nothing_later() -> None:
    for _ in range(1000):
        with deadline(0.1):
            pass
    time.sleep(0.6)


def test_each_thread_has_its_own() -> None:
    ended: list[str] = []

    def loop() -> None:
        try:
            with deadline(0.2):
                while True:
                    time.sleep(0.01)
        except DeadlinePassed:
            ended.append("loop")

    thread = threading.Thread(target=loop)
    thread.start()
    with deadline(60):
        thread.join(10)
    assert ended == ["loop"]
