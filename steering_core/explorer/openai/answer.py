"""`Answer`: one choice of a completion, built from its tokens as they come, whole or piece by piece."""

from collections.abc import Sequence
from typing import Any

from steering_core.explorer.batches import Event
from steering_core.explorer.openai.answer_forms import FINISH, AnswerForm
from steering_core.explorer.openai.tools import ToolReply, WrittenCall
from steering_core.explorer.watching import Readings
from steering_core.models import Model
from steering_core.monitors.conversation import Watched


class Answer:
    """The choice at `index`. `before` is the prompt's text and `echoed` its tokens, where they are echoed.

    `probes` read along.
    """

    def __init__(
        self,
        model: Model,
        form: AnswerForm,
        index: int,
        tools: Sequence[dict[str, Any]],
        before: str = "",
        echoed: Sequence[Event] | None = None,
        probes: Sequence[Watched] = (),
    ) -> None:
        self._form, self._index, self._before = form, index, before
        self._readings = Readings(probes) if probes else None
        self._reply = ToolReply(model, tools)
        self._text, self._finish = before, "length"
        self._calls: list[WrittenCall] = []
        self._echoed = list(echoed or ())
        self._logprobs: list[Event] | None = None if echoed is None else []
        self._begun = False

    def add(self, event: Event) -> dict[str, Any]:
        """The choice of a stream's chunk for one token."""
        start = len(self._text)
        text, calls = self._reply.add(event["text"], last=bool(event["finish"]))
        before = len(self._calls)
        self._text += text
        self._calls += calls
        finish = self._finished(event["finish"])
        logprobs = self._logprobs_of(event, start)
        shown = text if self._begun else self._before + text
        delta = self._form.delta(shown, calls, before, first=not self._begun)
        self._begun = True
        choice = {"index": self._index, **delta, "finish_reason": finish, "logprobs": logprobs}
        if self._readings:
            choice["probes"] = self._readings.add(event["projections"])
            if finish:
                choice["probe_verdicts"] = self._readings.verdicts
        return choice

    def whole(self) -> dict[str, Any]:
        """The choice as it is at the end."""
        logprobs = None if self._logprobs is None else self._form.logprobs(self._echoed + self._logprobs, self._start)
        answer = self._form.choice(self._text, self._calls)
        choice = {"index": self._index, **answer, "finish_reason": self._finish, "logprobs": logprobs}
        if self._readings:
            choice["probes"] = self._readings.values
            choice["probe_verdicts"] = self._readings.verdicts
        return choice

    @property
    def begun(self) -> bool:
        """Whether a token has come."""
        return self._begun

    @property
    def _start(self) -> int:
        """Where in the text the first token begins that brings its log-probability."""
        return 0 if self._echoed else len(self._before)

    def _finished(self, finish: str | None) -> str | None:
        if finish is None:
            return None
        self._finish = "tool_calls" if self._calls and finish == "stop" else FINISH[finish]
        return self._finish

    def _logprobs_of(self, event: Event, start: int) -> dict[str, Any] | None:
        """The token's log-probability, in the form's way; nothing where none is wanted, or at a text's end."""
        if "logprobs" not in event:
            return None
        self._logprobs = self._logprobs or []
        new = [] if event["logprobs"] is None else [event["logprobs"]]
        self._logprobs += new
        if self._echoed and not self._begun:  # the first piece brings the prompt
            return self._form.logprobs(self._echoed + new, 0)
        return self._form.logprobs(new, start) if new else None
