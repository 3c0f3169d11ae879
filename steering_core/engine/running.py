"""`Running`: rows of one model that come when they like, and are decoded together (continuous batching).

    running = Running(model)
    running.add({1: Request(tokens), 2: Request(others, intervention)})
    for token in running.step():                 # about a token of every row; added rows begin here
        ...

A row begins at the next step that has memory for it, joins the rows under way where the model's caches hold rows of
different lengths, and runs beside them otherwise. What it draws is what it would draw alone.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce

from steering_core.engine.decoding import Decoding
from steering_core.engine.forward import Batch, checked, resumed
from steering_core.engine.joining import joined
from steering_core.engine.prefixes import Prefixes
from steering_core.engine.probes import Watch
from steering_core.engine.requests import Limits, Request, Token, read_together
from steering_core.foundation.counting import Work
from steering_core.models import Model

_LIMITS = Limits(1 << 30, 0.0)  # a row's own limit, and the model's context, end it
_PASS = 64  # tokens: what a pass of its own costs beside what it reads, as it goes through all weights (docs/log.md)


class Running:
    """Rows under way, and rows that wait for memory; texts go on from `prefixes` where they are given."""

    def __init__(self, model: Model, prefixes: Prefixes | None = None, work: Work | None = None) -> None:
        self.model = model
        self._prefixes, self._work = prefixes, work or Work()
        self._waiting: dict[int, Request] = {}
        self._decodings: list[Decoding] = []
        self._bytes: dict[int, int] = {}  # that each row under way takes at its end

    def __len__(self) -> int:
        return len(self._waiting) + sum(map(len, self._decodings))

    def add(self, rows: Mapping[int, Request]) -> None:
        """Have those rows begin when there is room. The caller numbers them, and uses each number once.

        Raises InterventionError, PromptError for one that does not fit the model.
        """
        fitting = {i: replace(r, intervention=checked(self.model, r.tokens, r.intervention)) for i, r in rows.items()}
        Watch(self.model, [probe for request in rows.values() for probe in request.probes])  # raises for a misfit
        self._waiting |= fitting

    def cancel(self, row: int) -> None:
        """Draw no more tokens of that row."""
        self._waiting.pop(row, None)
        self._bytes.pop(row, None)
        for decoding in self._decodings:
            decoding.cancel(row)
        self._decodings = [decoding for decoding in self._decodings if len(decoding)]

    def step(self) -> list[Token]:
        """The next token of every row under way; what waits and fits begins first."""
        if starting := self._starting():
            for decoding in self._begun(starting):
                self._join(decoding)
        tokens = [token for decoding in self._decodings for token in decoding.step()]
        self._decodings = [decoding for decoding in self._decodings if len(decoding)]
        for token in tokens:
            if token.finish:
                self._bytes.pop(token.row, None)
        return tokens

    def close(self) -> None:
        """End all rows and free what they hold."""
        self._waiting, self._decodings, self._bytes = {}, [], {}

    def _starting(self) -> dict[int, Request]:
        """The rows that begin now: as many of those that wait as memory has room for, in their order."""
        memory = self.model.memory
        if not self._waiting:
            return {}
        room = memory.room("sample", memory.limit) - memory.footprint.fixed
        starting: dict[int, Request] = {}
        for row, request in self._waiting.items():
            end = _LIMITS.end(self.model, request)
            needed = memory.sampled_bytes(1, end) - memory.footprint.fixed
            if self._prefixes and sum(self._bytes.values()) + needed > room:
                self._prefixes.clear()
                room = memory.room("sample", memory.limit) - memory.footprint.fixed
            crowded = len(self._bytes) >= memory.habits.rows or sum(self._bytes.values()) + needed > room
            if crowded and self._bytes:
                break
            self._bytes[row] = needed
            starting[row] = request
        for row in starting:
            del self._waiting[row]
        return starting

    def _begun(self, rows: Mapping[int, Request]) -> list[Decoding]:
        """Decodings of `rows` with their prompts read: together, but for rows that resume from a kept prefix."""
        alike: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for row, request in rows.items():
            alike.setdefault((request.tokens, id(request.intervention)), []).append(row)
        fresh: dict[int, Request] = {}
        known: list[tuple[list[int], Batch]] = []
        for members in alike.values():
            if batch := self._resumed(rows[members[0]], len(members), alone=len(alike) == 1):
                known.append((members, batch))
            else:
                fresh |= {row: rows[row] for row in members}
        mixed = self.model.abilities.mixed
        begun = [self._decoding({row: rows[row] for row in members}, batch) for members, batch in _as_one(known, mixed)]
        for members in read_together(fresh, mixed):
            begun.append(self._decoding({row: fresh[row] for row in members}))
        return begun

    def _decoding(self, rows: Mapping[int, Request], batch: Batch | None = None) -> Decoding:
        decoding = Decoding(self.model, rows, _LIMITS, self._work, prefixes=self._prefixes)
        decoding.begin(batch)
        return decoding

    def _resumed(self, request: Request, rows: int, alone: bool) -> Batch | None:
        """A batch of `rows` rows of one request, resumed from the longest prefix that was read before.

        None where no prefix is kept. A prompt that is read in one pass with others anyway (not `alone`) is read anew
        where its prefix is shorter than what a pass of its own costs.
        """
        found = self._prefixes.found(request.tokens, request.intervention) if self._prefixes else None
        if found is None:
            return None
        cache, known = found
        if not alone and known < len(request.tokens) - 1 and known < _PASS:
            return None
        batch = resumed(self.model, request.tokens, request.intervention, cache, known, self._work)
        return batch if rows == 1 else batch.keep([0] * rows)

    def _join(self, decoding: Decoding) -> None:
        if self._decodings and self.model.abilities.mixed:
            self._decodings[0].join(decoding)
        else:
            self._decodings.append(decoding)


def _as_one(known: list[tuple[list[int], Batch]], mixed: bool) -> list[tuple[list[int], Batch]]:
    """Batches with their rows, joined to one where caches take rows of different lengths: one pass serves all."""
    if not mixed or len(known) < 2:
        return known
    return [([row for members, _ in known for row in members], reduce(joined, (batch for _, batch in known)))]
