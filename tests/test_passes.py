"""Plans of passes: every token of every sequence is run, in its place, and shared prefixes once."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.activations.passes import Cost, Pass, plan_passes, total

CHEAP = Cost(tokens=60, cached=200, overhead=1)
sequences_drawn = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), min_size=1, max_size=30)


def read_back(sequences: Sequence[Sequence[int]], passes: Sequence[Pass]) -> dict[int, list[int]]:
    """Run the passes as a model would, with token lists for caches; each sequence as its last pass leaves it."""
    ended: dict[int, list[int]] = {}

    def run(this: Pass, cache: list[list[int]]) -> None:
        rows = [list(cache[parent]) for parent in this.parents]
        for row, readers in zip(rows, this.readers, strict=True):
            assert len(row) == this.offset
            stretches = {tuple(sequences[r][this.offset : this.offset + this.length]) for r in readers}
            assert len(stretches) == 1, "a row's readers disagree about its tokens"
            row += stretches.pop()
        if not this.children:
            for row, (reader,) in zip(rows, this.readers, strict=True):
                assert reader not in ended, "a sequence ends twice"
                ended[reader] = row
        else:
            assert all(len(row) == this.offset + this.length for row in rows), "a stem is padded"
        for child in this.children:
            run(child, rows)

    for root in passes:
        run(root, [[]] * (max(root.parents) + 1))
    return ended


@given(sequences_drawn)
@settings(max_examples=200, deadline=None)
def test_every_sequence_is_read_to_its_end(sequences: list[list[int]]) -> None:
    ended = read_back(sequences, plan_passes(sequences, CHEAP))
    assert ended == dict(enumerate(sequences))


@given(sequences_drawn)
@settings(max_examples=200, deadline=None)
def test_passes_keep_to_their_bounds(sequences: list[list[int]]) -> None:
    for root in plan_passes(sequences, CHEAP):
        for this in root.walk():
            one_row = len(this.parents) == 1
            assert one_row or this.tokens <= CHEAP.tokens
            assert one_row or len(this.parents) * (this.offset + this.length) <= CHEAP.cached


def test_a_shared_beginning_is_run_once() -> None:
    sequences = [[9] * 50 + [i] for i in range(8)]
    stem, = plan_passes(sequences, Cost(tokens=1000, cached=1000, overhead=10))  # fmt: skip
    assert (stem.length, len(stem.parents)) == (50, 1)
    assert total([stem]) == (2, 50 + 8)


def test_pairs_share_their_stems_in_one_batch() -> None:
    sequences = [[i] * 40 + [100 + side] for i in range(10) for side in (0, 1)]
    n, tokens = total(plan_passes(sequences, Cost(tokens=1000, cached=10_000, overhead=10)))
    assert (n, tokens) == (2, 10 * 40 + 20)


def test_stems_nest() -> None:
    system, questions = [7] * 60, [[i] * 40 for i in range(6)]
    sequences = [[*system, *question, 100 + answer] for question in questions for answer in range(4)]
    n, tokens = total(plan_passes(sequences, Cost(tokens=1000, cached=10_000, overhead=10)))
    assert (n, tokens) == (3, 60 + 6 * 40 + 24)


def test_what_does_not_pay_is_not_shared() -> None:
    sequences = [[5, 5, i, i + 1, i + 2] for i in range(10, 40, 3)]
    passes = plan_passes(sequences, Cost(overhead=32))
    assert total(passes) == (1, 5 * len(sequences))


def test_nothing_shared_costs_no_more_than_plain_batches() -> None:
    sequences = [[i, *range(100, 100 + i % 7 + 20)] for i in range(100)]
    _, tokens = total(plan_passes(sequences, Cost(tokens=512)))
    assert tokens <= 1.05 * sum(map(len, sequences))


def test_a_long_sequence_is_a_pass_of_its_own() -> None:
    sequences = [[1] * 500, [2] * 3, [3] * 3]
    lengths = sorted((this.length, len(this.parents)) for this in plan_passes(sequences, Cost(tokens=100)))
    assert lengths == [(3, 2), (500, 1)]
