"""Passes: which forward passes read a set of token sequences, each prefix that they share run once.

A pass continues rows of its parent's cache. Where the architecture's caches take rows of different lengths, each row
stands at its own offset; elsewhere all rows stand at one, and stems that share a pass are cut to the shortest of them,
and what was cut is run again after it. Padding is on the right, so the numbers are those of one sequence at a time.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from steering_core.foundation.sequences import common_length

TokenSequence = Sequence[int]
Sliced = TypeVar("Sliced", tuple[int, ...], Sequence[int], np.ndarray)
_PIECE = 64  # tokens: a sequence is not cut into smaller pieces
_FEW = 4  # passes a lane; with more, it does not matter how evenly they are dealt out


@dataclass(frozen=True)
class Cost:
    """What passes cost, in tokens: `overhead` a pass (reading the weights, mostly), and what one may hold.

    `tokens` bounds a pass, rows x length; `cached` bounds its cache, rows x the longest row's end. A single row may be
    longer than both. `lanes` passes run at once; `mixed` says that a stem's rows may be of different lengths.

    `fits(rows, length, deepest)` tells whether a pass of `length` tokens a row, whose caches end at `deepest`, fits
    into memory. A single row that does not fit is read in several passes.
    """

    tokens: int = 1536
    cached: int = 8192
    overhead: int = 40
    lanes: int = 1
    mixed: bool = False
    fits: Callable[[int, int, int], bool] = lambda rows, length, deepest: True

    def holds(self, rows: int, length: int, deepest: int) -> bool:
        """Whether `rows` rows of `length` tokens, whose caches end at `deepest`, may share a pass."""
        return rows * length <= self.tokens and rows * deepest <= self.cached and self.fits(rows, length, deepest)


@dataclass(frozen=True)
class Pass:
    """One forward pass over B rows: row i, `lengths[i]` tokens at `offsets[i]`, continues row `parents[i]` of a cache.

    `readers[i]` are the sequences that run through row i. A pass without children is the last of its sequences, one
    reader a row. Rows shorter than `length` are padded on the right.
    """

    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    parents: tuple[int, ...]
    readers: tuple[tuple[int, ...], ...]
    children: tuple["Pass", ...] = ()

    @property
    def length(self) -> int:
        """Tokens of the longest row."""
        return max(self.lengths)

    @property
    def deepest(self) -> int:
        """Where the longest row ends in its sequence."""
        return max(offset + length for offset, length in zip(self.offsets, self.lengths, strict=True))

    @property
    def padding(self) -> list[int]:
        """Tokens after the end of each row; nothing where all are of one length."""
        padding = [self.length - length for length in self.lengths]
        return padding if any(padding) else []

    def stretch(self, row: int, tokens: Sliced) -> Sliced:
        """The part of `tokens` that row `row` computes; `tokens` may be any sequence with one entry a token."""
        return tokens[self.offsets[row] : self.offsets[row] + self.lengths[row]]

    @property
    def tokens(self) -> int:
        """Rows x length: what the pass computes, padding included."""
        return len(self.parents) * self.length

    @property
    def mixed(self) -> bool:
        """Whether this pass, or one that continues it, leaves rows of different lengths in its cache."""
        return bool(self.children and self.padding) or any(child.mixed for child in self.children)

    def walk(self) -> Iterator["Pass"]:
        """This pass and all that continue it."""
        yield self
        for child in self.children:
            yield from child.walk()


def total(passes: Sequence[Pass]) -> tuple[int, int]:
    """Number of passes and of their tokens."""
    found = [p.tokens for root in passes for p in root.walk()]
    return len(found), sum(found)


def plan_passes(sequences: Sequence[TokenSequence], cost: Cost) -> tuple[Pass, ...]:
    """Passes that together read every sequence to its end, the costliest first. No sequence may be empty.

    Where they are few, plans of smaller passes are tried too, which may keep all lanes equally busy.
    """
    plans = [_Planner(sequences, cost).plan()]
    if cost.lanes > 1 and len(plans[0]) <= _FEW * cost.lanes:
        tokens = sum(p.tokens for p in plans[0])
        for n in range(cost.lanes, len(plans[0]) + 2 * cost.lanes):
            bounds = {math.ceil(slack * tokens / n) for slack in (1.02, 1.05, 1.1)}
            plans += [_Planner(sequences, replace(cost, tokens=b)).plan() for b in bounds if b < cost.tokens]
    return min(plans, key=lambda plan: _span(plan, cost))


def _span(plan: Sequence[Pass], cost: Cost) -> float:
    """What a plan takes, in tokens, with as many passes at once as there are lanes."""
    each = [sum(p.tokens + cost.overhead for p in root.walk()) for root in plan]
    return sum(max(each[i : i + cost.lanes]) for i in range(0, len(each), cost.lanes))


class _Node(NamedTuple):
    """A node of the sequences' trie: the sequences at places `begin` .. `end` - 1 of their sorted order."""

    begin: int
    end: int

    @property
    def size(self) -> int:
        """How many sequences run through the node."""
        return self.end - self.begin


class _Stem(NamedTuple):
    """A node that one row of a pass is to run, and the row of the cache that it continues."""

    row: int
    node: _Node


class _End(NamedTuple):
    """What is left of one sequence, by its place in the sorted order, and the row of the cache that it continues."""

    row: int
    place: int


class _Planner:
    """Sequences in sorted order, where those that share a prefix are neighbours: a node of their trie is a range.

    `common[place]` counts the tokens that a sequence shares with the one before it, its own last token excepted:

        place  sequence  common          node (0, 4), which shares nothing
        0      a b c d   0               ├─ (0, 3), which shares a b
        1      a b c e   3               │  ├─ (0, 2), which shares a b c: places 0 and 1
        2      a b f     2               │  └─ (2, 3): place 2
        3      x y       0               └─ (3, 4): place 3

    A node is divided where `common` is no more than what it shares.
    """

    def __init__(self, sequences: Sequence[TokenSequence], cost: Cost) -> None:
        self.cost = cost
        self.order = sorted(range(len(sequences)), key=lambda i: tuple(sequences[i]))
        self.lengths = [len(sequences[i]) for i in self.order]
        ordered = [sequences[i] for i in self.order]
        self.common = [0] + [_common(a, b) for a, b in pairwise(ordered)]

    def plan(self) -> tuple[Pass, ...]:
        """Passes for all sequences, the costliest first."""
        found = self.passes([_Node(0, len(self.order))], [0])
        return tuple(sorted(found, key=lambda root: -sum(p.tokens + self.cost.overhead for p in root.walk())))

    def shared(self, node: _Node) -> int:
        """Tokens that all of a node's sequences begin with, at least one short of the shortest."""
        return min(self.common[node.begin + 1 : node.end])

    def passes(self, nodes: Sequence[_Node], offsets: Sequence[int]) -> tuple[Pass, ...]:
        """Passes that finish the sequences of `nodes`; node i continues row i of a cache, offsets[i] tokens long.

        Stems that several sequences run through are tried first; one that does not pay is tried again in its parts.
        """
        made: list[Pass] = []
        ends: list[_End] = []
        todo = [_Stem(row, part) for row, node in enumerate(nodes) for part in self._worthy(node, offsets[row])]
        while todo:
            stems = [stem for stem in todo if stem.node.size > 1]
            ends += [_End(stem.row, stem.node.begin) for stem in todo if stem.node.size == 1]
            todo = []
            for bucket in self._buckets(stems, offsets):
                if (made_of_bucket := self._stem_pass(bucket, offsets)) is not None:
                    made.append(made_of_bucket)
                else:
                    todo += [_Stem(row, part) for row, node in bucket for part in self._parts(node, self.shared(node))]
        return (*made, *self._last_passes(ends, offsets))

    def _parts(self, node: _Node, depth: int) -> list[_Node]:
        """The parts of a node whose sequences agree beyond `depth`."""
        cuts = [place for place in range(node.begin + 1, node.end) if self.common[place] <= depth]
        return [_Node(begin, end) for begin, end in pairwise([node.begin, *cuts, node.end])]

    def _worthy(self, node: _Node, depth: int) -> Iterator[_Node]:
        """The parts of a node beyond `depth`. One that saves less than a sixteenth of its tokens is divided again."""
        for part in self._parts(node, depth):
            if part.size < 2:
                yield part
                continue
            shared = self.shared(part)
            tokens = sum(self.lengths[part.begin : part.end]) - part.size * depth
            if 16 * (part.size - 1) * (shared - depth) >= tokens:
                yield part
            else:
                for smaller in self._parts(part, shared):
                    yield from self._worthy(smaller, depth)

    def _stem_pass(self, bucket: Sequence[_Stem], offsets: Sequence[int]) -> Pass | None:
        """The pass that runs a bucket's stems once, with all that follows; None where it would not pay.

        The passes that continue a stem can share none with other sequences, so their overhead counts too.
        """
        begins, depths = [offsets[row] for row, _ in bucket], [self.shared(node) for _, node in bucket]
        if not self.cost.mixed:
            depths = [min(depths)] * len(bucket)
        lengths = tuple(depth - begin for begin, depth in zip(begins, depths, strict=True))
        saved = sum((node.size - 1) * length for (_, node), length in zip(bucket, lengths, strict=True))
        if saved <= self.cost.overhead:
            return None
        nodes = [node for _, node in bucket]
        readers = tuple(tuple(self.order[node.begin : node.end]) for node in nodes)
        stem = Pass(tuple(begins), lengths, tuple(row for row, _ in bucket), readers, self.passes(nodes, depths))
        n, tokens = total([stem])
        flat = sum(self.lengths[place] - offsets[row] for row, node in bucket for place in range(node.begin, node.end))
        worth = tokens + n * self.cost.overhead < flat + self.cost.overhead * max(1, flat // self.cost.tokens)
        return stem if worth and saved > n * self.cost.overhead else None

    def _buckets(self, stems: Sequence[_Stem], offsets: Sequence[int]) -> Iterator[list[_Stem]]:
        """Stems grouped into passes: sorted by length, cut into buckets of least total cost (dynamic programming).

        A bucket is one pass over its stems and one over what follows them: it costs 2 * overhead + rows * length. Its
        length is that of the longest stem where rows may have different lengths. Elsewhere all stems are cut to the
        shortest, and each of the bucket's sequences computes what was cut off again: at most sequences * (longest -
        shortest) tokens more.
        """
        ordered = sorted(stems, key=lambda stem: self.shared(stem.node) - offsets[stem.row], reverse=True)
        depths = [self.shared(node) for _, node in ordered]
        lengths = [depth - offsets[row] for (row, _), depth in zip(ordered, depths, strict=True)]
        best, came = [0.0], [0]  # of the first 0, 1, 2, … stems: the least cost, and where the last bucket begins
        for end in range(1, len(ordered) + 1):
            members, deepest, choice = 0, 0, (float("inf"), end - 1)
            for begin in range(end - 1, -1, -1):
                rows, deepest = end - begin, max(deepest, depths[begin])
                length = lengths[begin] if self.cost.mixed else lengths[end - 1]
                if rows > 1 and not self.cost.holds(rows, length, deepest):
                    break
                members += ordered[begin].node.size
                cost = 2 * self.cost.overhead + rows * length
                if not self.cost.mixed:
                    cost += members * (lengths[begin] - length)
                choice = min(choice, (best[begin] + cost, begin))
            best.append(choice[0])
            came.append(choice[1])
        end = len(ordered)
        while end:
            yield ordered[came[end] : end]
            end = came[end]

    def _last_passes(self, ends: Sequence[_End], offsets: Sequence[int]) -> Iterator[Pass]:
        """Passes that end their sequences: sorted by length, as many rows as fit."""
        batch: list[_End] = []
        deepest = 0
        for one in sorted(ends, key=lambda end: self.lengths[end.place] - offsets[end.row]):
            length = self.lengths[one.place] - offsets[one.row]
            deepest = max(deepest, self.lengths[one.place])
            if batch and not self.cost.holds(len(batch) + 1, length, deepest):
                yield self._last_pass(batch, offsets)
                batch, deepest = [], self.lengths[one.place]
            batch.append(one)
        if batch:
            yield self._last_pass(batch, offsets)

    def _last_pass(self, batch: Sequence[_End], offsets: Sequence[int]) -> Pass:
        """One pass that ends the batch's sequences; several for a single sequence that does not fit into one."""
        begins = tuple(offsets[row] for row, _ in batch)
        if len(batch) == 1:
            return self._in_pieces(batch[0], begins[0])
        lengths = tuple(self.lengths[place] - begin for (_, place), begin in zip(batch, begins, strict=True))
        return Pass(begins, lengths, tuple(row for row, _ in batch), tuple((self.order[place],) for _, place in batch))

    def _in_pieces(self, one: _End, begin: int) -> Pass:
        """One sequence's end, in one pass; or in several, each continuing the one before, where one does not fit."""
        end, reader = self.lengths[one.place], ((self.order[one.place],),)
        piece = end - begin
        while piece > _PIECE and not self.cost.fits(1, piece, end):
            piece = -(-piece // 2)
        starts = range(begin, end, piece)
        following: tuple[Pass, ...] = ()
        for start in reversed(starts):
            parent = one.row if start == begin else 0
            following = (Pass((start,), (min(piece, end - start),), (parent,), reader, following),)
        return following[0]


def _common(a: TokenSequence, b: TokenSequence) -> int:
    """Tokens that both begin with, at least one short of the shorter one: every sequence ends in a pass of its own."""
    return min(common_length(a, b), len(a) - 1, len(b) - 1)
