"""Passes: which forward passes read a set of token sequences, each prefix that they share run once.

A pass continues rows of its parent's cache, all at one offset, with plain causal attention: no masks, no padding on the
left. Stems that share a pass are cut to the shortest of them, and what was cut is run again behind it; only the last
pass of a sequence is padded, on the right. So the numbers are those of one sequence at a time on every architecture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

Tokens = Sequence[int]
Range = tuple[int, int]  # of places in the sequences' sorted order


@dataclass(frozen=True)
class Cost:
    """What passes cost, in tokens: `overhead` a pass (reading the weights, mostly), and what one may hold.

    `tokens` bounds a pass, rows x length; `cached` bounds its cache, rows x (offset + length). A single row may be
    longer than both.
    """

    tokens: int = 1024
    cached: int = 8192
    overhead: int = 64


@dataclass(frozen=True)
class Pass:
    """One forward pass over B rows of `length` tokens at `offset`; row i continues row `parents[i]` of the cache.

    `readers[i]` are the sequences that run through row i. A pass without children is the last of its sequences: one
    reader a row, padded on the right.
    """

    offset: int
    length: int
    parents: tuple[int, ...]
    readers: tuple[tuple[int, ...], ...]
    children: tuple["Pass", ...] = ()

    @property
    def tokens(self) -> int:
        """Rows x length: what the pass computes, padding included."""
        return len(self.parents) * self.length

    def walk(self) -> Iterator["Pass"]:
        """This pass and all that continue it."""
        yield self
        for child in self.children:
            yield from child.walk()


def total(passes: Sequence[Pass]) -> tuple[int, int]:
    """Number of passes and of their tokens."""
    found = [p.tokens for root in passes for p in root.walk()]
    return len(found), sum(found)


def plan_passes(sequences: Sequence[Tokens], cost: Cost) -> tuple[Pass, ...]:
    """Passes that together read every sequence to its end. No sequence may be empty."""
    return _Planner(sequences, cost).passes(0, [(0, len(sequences))])


class _Planner:
    """Sequences in sorted order, where those that share a prefix are neighbours: a node of their trie is a range."""

    def __init__(self, sequences: Sequence[Tokens], cost: Cost) -> None:
        self.cost = cost
        self.order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
        self.lengths = [len(sequences[i]) for i in self.order]
        ordered = [sequences[i] for i in self.order]
        self.common = [0] + [_common(a, b) for a, b in pairwise(ordered)]

    def shared(self, node: Range) -> int:
        """Tokens that all of a node's sequences begin with, at least one short of the shortest."""
        return min(self.common[node[0] + 1 : node[1]])

    def passes(self, offset: int, nodes: Sequence[Range]) -> tuple[Pass, ...]:
        """Passes that finish the sequences of `nodes`, of which node i continues row i of a cache at `offset`."""
        made: list[Pass] = []
        last: list[tuple[int, int]] = []  # (row of the cache, place of the sequence)
        stems = [(row, part) for row, node in enumerate(nodes) for part in self._parts(node, offset)]
        while stems:
            stems, left = _split(stems)
            last += [(row, place) for row, (place, _) in left]
            retry: list[tuple[int, Range]] = []
            for bucket in self._buckets(stems, offset):
                stem = self._stem(bucket, offset)
                if stem is None:
                    retry += [(row, part) for row, node in bucket for part in self._parts(node, self.shared(node))]
                else:
                    made.append(stem)
            stems = retry
        return (*made, *self._last_passes(last, offset))

    def _parts(self, node: Range, depth: int) -> list[Range]:
        """The parts of a node whose sequences agree beyond `depth`."""
        begin, end = node
        cuts = [i for i in range(begin + 1, end) if self.common[i] <= depth]
        return [(a, b) for a, b in zip([begin, *cuts], [*cuts, end], strict=True)]

    def _stem(self, bucket: Sequence[tuple[int, Range]], offset: int) -> Pass | None:
        """The pass that runs a bucket's stems once, with all that follows; None where it would not pay.

        What follows a stem can no longer share a pass with other sequences, so each such pass must be paid for.
        """
        depth = min(self.shared(node) for _, node in bucket)
        members = [place for _, (begin, end) in bucket for place in range(begin, end)]
        saved = (len(members) - len(bucket)) * (depth - offset)
        if saved <= self.cost.overhead:
            return None
        nodes = [node for _, node in bucket]
        readers = tuple(tuple(self.order[begin:end]) for begin, end in nodes)
        stem = Pass(offset, depth - offset, tuple(row for row, _ in bucket), readers, self.passes(depth, nodes))
        n, tokens = total([stem])
        flat = sum(self.lengths[place] - offset for place in members)
        worth = tokens + n * self.cost.overhead < flat + self.cost.overhead * max(1, flat // self.cost.tokens)
        return stem if worth and saved > n * self.cost.overhead else None

    def _buckets(self, stems: Sequence[tuple[int, Range]], offset: int) -> Iterator[list[tuple[int, Range]]]:
        """Stems grouped into passes: sorted by length and cut where that wastes least (dynamic programming).

        A bucket costs two passes' overhead, its shortest stem once a row, and the most that is cut off once a sequence.
        """
        ordered = sorted(stems, key=lambda stem: self.shared(stem[1]), reverse=True)
        lengths = [self.shared(node) - offset for _, node in ordered]
        sizes = [end - begin for _, (begin, end) in ordered]
        best, came = [0.0], [0]
        for end in range(1, len(ordered) + 1):
            shortest, members, choice = lengths[end - 1], 0, (float("inf"), end - 1)
            for begin in range(end - 1, -1, -1):
                rows = end - begin
                if rows > 1 and (rows * shortest > self.cost.tokens or rows * (offset + shortest) > self.cost.cached):
                    break
                members += sizes[begin]
                cost = 2 * self.cost.overhead + rows * shortest + members * (lengths[begin] - shortest)
                choice = min(choice, (best[begin] + cost, begin))
            best.append(choice[0])
            came.append(choice[1])
        end = len(ordered)
        while end:
            yield list(ordered[came[end] : end])
            end = came[end]

    def _last_passes(self, last: Sequence[tuple[int, int]], offset: int) -> Iterator[Pass]:
        """Passes that end their sequences: sorted by length, as many rows as fit."""
        ordered = sorted(last, key=lambda one: self.lengths[one[1]])
        batch: list[tuple[int, int]] = []
        for one in [*ordered, None]:
            length = self.lengths[one[1]] - offset if one else 0
            rows = len(batch) + 1
            full = rows * length > self.cost.tokens or rows * (offset + length) > self.cost.cached
            if batch and (one is None or full):
                longest = self.lengths[batch[-1][1]] - offset
                parents = tuple(row for row, _ in batch)
                yield Pass(offset, longest, parents, tuple((self.order[place],) for _, place in batch))
                batch = []
            if one:
                batch.append(one)


def _split(stems: Sequence[tuple[int, Range]]) -> tuple[list[tuple[int, Range]], list[tuple[int, Range]]]:
    """Ranges of several sequences, and of one."""
    return [s for s in stems if s[1][1] - s[1][0] > 1], [s for s in stems if s[1][1] - s[1][0] == 1]


def _common(a: Tokens, b: Tokens) -> int:
    """Tokens that both begin with, at least one short of the shorter one: every sequence ends in a pass of its own."""
    most = min(len(a), len(b)) - 1
    return next((i for i in range(most) if a[i] != b[i]), most)
