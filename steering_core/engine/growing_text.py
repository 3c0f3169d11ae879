"""Texts as they grow: what a row's tokens say so far, as far as later tokens cannot change it."""

from collections.abc import Callable, Sequence

INCOMPLETE = "\ufffd"  # what a tokenizer shows for the first bytes of a character


class GrowingText:
    """The text of tokens that come one by one, cut before the first stop string.

    `add` gives the piece that became certain with a token: it keeps back the first bytes of a character, and what may
    turn out to be the beginning of a stop string. All pieces together, with that of `end`, are `text`.
    """

    def __init__(self, text_of: Callable[[Sequence[int]], str], stop: Sequence[str] = ()) -> None:
        self._text_of, self._stop = text_of, [s for s in stop if s]
        self._tokens: list[int] = []
        self._read_from = self._read_to = 0  # these tokens' text is known, and is decoded with the next ones as context
        self._given = 0  # letters of `text` that were handed out
        self.text = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The piece of text that became certain with `token`."""
        self._tokens.append(token)
        context = self._text_of(self._tokens[self._read_from : self._read_to])
        both = self._text_of(self._tokens[self._read_from :])
        if len(both) <= len(context) or both.endswith(INCOMPLETE):
            return ""
        self._read_from, self._read_to = self._read_to, len(self._tokens)
        self._append(both[len(context) :])
        return self._give(len(self.text) if self.stopped else len(self.text) - self._may_begin_stop())

    def end(self) -> str:
        """The rest, when no more tokens come."""
        if not self.stopped:
            context = self._text_of(self._tokens[self._read_from : self._read_to])
            self._append(self._text_of(self._tokens[self._read_from :])[len(context) :])
        return self._give(len(self.text))

    def _append(self, piece: str) -> None:
        """Add `piece`, up to where a stop string begins."""
        before = len(self.text)
        self.text += piece
        found = [self.text.find(s, max(0, before - len(s) + 1)) for s in self._stop]
        hits = [place for place in found if place >= 0]
        if hits:
            self.text, self.stopped = self.text[: min(hits)], True

    def _may_begin_stop(self) -> int:
        """The length of the text's longest ending with which a stop string begins."""
        longest = max((len(s) for s in self._stop), default=1) - 1
        for n in range(min(longest, len(self.text)), 0, -1):
            if any(s.startswith(self.text[-n:]) for s in self._stop):
                return n
        return 0

    def _give(self, upto: int) -> str:
        piece = self.text[self._given : upto]
        self._given = max(self._given, upto)
        return piece
