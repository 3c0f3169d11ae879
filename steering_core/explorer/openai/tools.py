"""Calls of tools in an answer: told from its text by the model's own markers, and read by mlx-lm's own parsers."""

import json
import logging
import secrets
from collections.abc import Sequence
from typing import Any

from steering_core.models import Model

log = logging.getLogger(__name__)

WrittenCall = dict[str, Any]
"""A call in OpenAI's form: id, type, function with its name and its arguments as JSON text."""


class ToolReply:
    """One answer as it grows: text, and calls where the model was offered `tools` and mlx-lm has a parser for it."""

    def __init__(self, model: Model, tools: Sequence[dict[str, Any]]) -> None:
        tokenizer = model.tokenizer
        self._tools = list(tools)
        self._parser = tokenizer.tool_parser if tools and tokenizer.has_tool_calling else None
        self._start = tokenizer.tool_call_start or ""
        self._call: str | None = None  # what has come of a call
        if self._parser:
            from steering_core.models.mlx_lm import tool_text

            self._state = tool_text(tokenizer)

    def add(self, piece: str, last: bool) -> tuple[str, list[WrittenCall]]:
        """The text and the calls that became certain with a piece of the answer."""
        if self._parser is None:
            return piece, []
        from steering_core.models.mlx_lm import rest_of_tool_text, split_tool_text

        self._state, parts = split_tool_text(self._state, piece)
        if last:
            parts.append(rest_of_tool_text(self._state))
        text = ""
        calls: list[WrittenCall] = []
        for place, (state, part) in enumerate(parts):
            if state == "tool":
                self._call = (self._call or "") + part
            if self._call is not None and (state != "tool" or (last and place == len(parts) - 1)):
                said, found = self._read(self._call)
                self._call = None
                text, calls = text + said, calls + found
            if state != "tool":
                text += part
        return text, calls

    def _read(self, call: str) -> tuple[str, list[WrittenCall]]:
        """A call's text as calls; as it stands, where the parser makes nothing of it, so that nothing is lost."""
        assert self._parser is not None, "only a model with a parser has calls"
        try:
            parsed = self._parser(call, self._tools)
            found = [_called(one) for one in (parsed if isinstance(parsed, list) else [parsed])]
        except (ValueError, KeyError, TypeError, AttributeError, SyntaxError, RecursionError) as error:
            log.warning("a call of a tool cannot be read (%s), and is left in the text: %s", error, call[:200])
            return self._start + call, []
        return "", found


def _called(parsed: dict[str, Any]) -> WrittenCall:
    function = {"name": str(parsed["name"]), "arguments": json.dumps(parsed["arguments"], ensure_ascii=False)}
    return {"id": parsed.get("id") or f"call_{secrets.token_hex(12)}", "type": "function", "function": function}
