"""The accelerator's queue: clients take turns, and the order shown is the order kept."""

from hypothesis import given
from hypothesis import strategies as st

from steering_core.explorer.queue import FairQueue


def filled(*jobs: tuple[str, str]) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue(limit=100)
    for client, job in jobs:
        assert queue.put(client, job)
    return queue


def drained(queue: FairQueue[str]) -> list[str]:
    served = []
    while (job := queue.take(lambda job: True)) is not None:
        served.append(job)
    return served


def test_a_client_that_asks_for_much_does_not_keep_others_waiting() -> None:
    queue = filled(("big", "a1"), ("big", "a2"), ("big", "a3"), ("small", "b1"), ("other", "c1"))
    assert drained(queue) == ["a1", "b1", "c1", "a2", "a3"]


def test_what_does_not_fit_is_passed_over_and_keeps_its_place() -> None:
    queue = filled(("a", "a1"), ("b", "b1"), ("b", "b2"))
    assert queue.take(lambda job: job.startswith("b")) == "b1"
    assert list(queue) == ["a1", "b2"]


def test_what_is_removed_is_gone_and_told_once() -> None:
    queue = filled(("a", "a1"), ("b", "b1"))
    assert queue.remove("a1")
    assert not queue.remove("a1")
    assert list(queue) == ["b1"]


def test_a_full_queue_takes_no_more() -> None:
    queue: FairQueue[str] = FairQueue(limit=1)
    assert queue.put("a", "a1")
    assert not queue.put("b", "b1")


@given(st.lists(st.sampled_from("abc"), max_size=20))
def test_the_order_shown_is_the_order_kept_and_fair(clients: list[str]) -> None:
    jobs = [(client, f"{client}{i}") for i, client in enumerate(clients)]
    queue = filled(*jobs)
    shown = list(queue)
    assert drained(queue) == shown
    assert sorted(shown) == sorted(job for _, job in jobs)
    for client in set(clients):
        mine = [job for job in shown if job[0] == client]
        assert mine == [job for _, job in jobs if job[0] == client], "a client's own jobs keep their order"
    for i, job in enumerate(shown):
        served = sum(other[0] == job[0] for other in shown[:i])
        assert all(sum(other[0] == client for other in shown[:i]) <= served + 1 for client in set(clients))
