"""Plans of passes: every token of every sequence is run, in its place, and shared prefixes once."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.activations.passes import Cost, Pass, plan_passes, total

CHEAP = Cost(tokens=60, cached=200, overhead=1)
MIXED = replace(CHEAP, mixed=True, lanes=2)
sequences_drawn = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=12), max_size=30)


def read_back(sequences: Sequence[Sequence[int]], passes: Sequence[Pass], mixed: bool) -> dict[int, list[int]]:
    """Run the passes as a model would, with token lists for caches; each sequence as its last pass leaves it."""
    ended: dict[int, list[int]] = {}

    def run(this: Pass, cache: list[list[int]]) -> None:
        rows = [list(cache[parent]) for parent in this.parents]
        for i, (row, readers) in enumerate(zip(rows, this.readers, strict=True)):
            assert len(row) == this.offsets[i]
            stretches = {tuple(this.stretch(i, sequences[r])) for r in readers}
            assert len(stretches) == 1, "a row's readers disagree about its tokens"
            row += stretches.pop()
        if not this.children:
            for row, (reader,) in zip(rows, this.readers, strict=True):
                assert reader not in ended, "a sequence ends twice"
                ended[reader] = row
        elif not mixed:
            assert not this.padding, "a stem is padded"
            assert len(set(this.offsets)) == 1
        for child in this.children:
            run(child, rows)

    for root in passes:
        run(root, [[]] * (max(root.parents) + 1))
    return ended


@given(sequences_drawn, st.sampled_from([CHEAP, MIXED]))
@settings(max_examples=300, deadline=None)
def test_every_sequence_is_read_to_its_end(sequences: list[list[int]], cost: Cost) -> None:
    ended = read_back(sequences, plan_passes(sequences, cost), cost.mixed)
    assert ended == dict(enumerate(sequences))


@given(sequences_drawn, st.sampled_from([CHEAP, MIXED]))
@settings(max_examples=300, deadline=None)
def test_passes_keep_to_their_bounds(sequences: list[list[int]], cost: Cost) -> None:
    for root in plan_passes(sequences, cost):
        for this in root.walk():
            deepest = max(a + b for a, b in zip(this.offsets, this.lengths, strict=True))
            one_row = len(this.parents) == 1
            assert one_row or this.tokens <= cost.tokens
            assert one_row or len(this.parents) * deepest <= cost.cached


def test_stems_of_different_lengths_share_a_pass_where_they_may() -> None:
    sequences = [[i] * (40 + i) + [100 + side] for i in range(10) for side in (0, 1)]
    roomy = Cost(tokens=1000, cached=10_000, overhead=40)
    stem, = plan_passes(sequences, replace(roomy, mixed=True))  # fmt: skip
    assert stem.mixed
    assert sorted(stem.lengths) == [40 + i for i in range(10)]
    assert total([stem]) == (2, 10 * 49 + 20)
    assert total(plan_passes(sequences, roomy))[1] > 10 * 49 + 20


def test_lanes_get_as_much_each() -> None:
    sequences = [[i] * (30 + i) for i in range(50)]
    most = Cost(tokens=1024)
    passes = plan_passes(sequences, replace(most, lanes=2))
    assert len(passes) % 2 == 0
    for one, other in zip(passes[::2], passes[1::2], strict=True):
        assert abs(one.tokens - other.tokens) < 0.15 * one.tokens
    assert [p.tokens for p in passes] == sorted((p.tokens for p in passes), reverse=True)


def test_a_few_common_tokens_do_not_keep_longer_stems_apart() -> None:
    """Openings like "The" join stems into one node of the trie, which is taken apart first."""
    sequences = [[i % 3, *[i] * 40, 100 + side] for i in range(12) for side in (0, 1)]
    assert total(plan_passes(sequences, Cost(tokens=1000, cached=10_000, overhead=40, mixed=True))) == (2, 12 * 41 + 24)


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
