"""`ChatTemplate`: what a model's own template makes of a conversation, as text and as tokens.

An answer's tokens are those of the *whole* conversation through the template: templates trim answers, put an empty
thought before them, or name a channel, and a tokenizer may join an answer's first letter to what stands before it. So
the whole conversation is rendered and the answer is located in it, instead of being joined to an open prompt.

Templates see a clock that stands still (`template_clock`): Llama 3.2 writes today's date into every conversation, and
with it each prompt would be another one tomorrow. Thinking is off unless an argument asks for it.
"""

import datetime
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from steering_core.foundation.deadline import DeadlinePassed, deadline
from steering_core.foundation.errors import PromptError, TemplateError
from steering_core.foundation.sequences import common_length
from steering_core.models.raw_text import Tokens

if TYPE_CHECKING:
    from steering_core.models.mlx_lm import TokenizerWrapper

Message = Mapping[str, Any]
Messages = Sequence[Message]

TEMPLATE_DATE = datetime.date(2024, 7, 26)  # what Llama 3.2's template writes where it has no clock
DATE = "date"  # the argument that sets the templates' clock
_TAKEN = {  # arguments of `apply_chat_template` itself
    *("conversation", "messages", "tokenize", "add_generation_prompt", "continue_final_message", "return_dict"),
    *("return_tensors", "return_assistant_tokens_mask", "padding", "truncation", "max_length", "tokenizer_kwargs"),
    *("sanitize_control_tokens", "strftime_now"),
}
_SECONDS = 10  # for one conversation; a real template takes less than a millisecond
_DEFAULTS = {"enable_thinking": False}
_MARKS = "\ue000\ue001\ue002"  # letters of private use that stand for an answer, which may itself begin or end with two
_THOUGHTS = (
    ("<think>", "\n</think>\n\n"),
    ("<longcat_think>", "\n</longcat_think>\n"),
    ("[THINK]", "[/THINK]"),
    ("<|channel>thought", "<channel|>"),
)


class ChatTemplate:
    """The chat template of `tokenizer`, with its arguments; `name` is the model's, for messages.

    `arguments` go to the template as they are (`enable_thinking`, `reasoning_effort`, `date_string`, …). Two are read
    here: `date` (YYYY-MM-DD) is what the template's clock shows, `chat_template` names one of several templates.
    """

    def __init__(self, tokenizer: "TokenizerWrapper", name: str, arguments: Mapping[str, Any] | None = None) -> None:
        self._tokenizer, self._name = tokenizer, name
        self._given = dict(arguments or {})

    @property
    def exists(self) -> bool:
        """Whether the model has a chat template at all; a base model has none."""
        return bool(self._tokenizer.has_chat_template)

    def with_arguments(self, arguments: Mapping[str, Any]) -> "ChatTemplate":
        """The same template with further arguments, which replace those of the same name."""
        if not arguments:
            return self
        return ChatTemplate(self._tokenizer, self._name, checked_arguments({**self._given, **arguments}))

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template has a place for a system message; Gemma 2's refuses one, others leave it out."""
        mark = _MARKS[0]
        try:
            return mark in self.rendered([{"role": "system", "content": mark}, {"role": "user", "content": "a"}])
        except TemplateError:
            return False

    def names(self, role: object) -> bool:
        """Whether the template's own source names a role: some know `developer`, `ipython` or `model`."""
        source = str(getattr(self._tokenizer, "chat_template", None) or "")
        return isinstance(role, str) and any(f"{quote}{role}{quote}" in source for quote in "'\"")

    @cached_property
    def takes_tools(self) -> bool:
        """Whether the template writes down the tools that it is given; many leave them out."""
        tool = {"type": "function", "function": {"name": _MARKS[0], "description": "a", "parameters": {}}}
        given = ChatTemplate(self._tokenizer, self._name, {**self._given, "tools": [tool]})
        try:
            return _MARKS[0] in given.rendered([{"role": "user", "content": "a"}])
        except TemplateError:
            return False

    def opened(self, messages: Messages) -> Tokens:
        """Tokens of `messages` up to where an answer begins, outside any thought.

        Raises TemplateError where the template refuses them.
        """
        return self._encoded(self.open_text(messages))

    def open_text(self, messages: Messages) -> str:
        """The text up to where an answer begins.

        That is the template's prompt for an answer, and what an answered conversation has after it, such as a channel's
        name. Where the prompt opens a thought, the thought is closed.
        """
        messages = self._placed(messages)
        prompt = self.rendered(messages)
        if self._thinks:
            return prompt
        before = self._before_answer(messages)
        if before.startswith(prompt) and before[len(prompt) :].strip():  # a space alone is the answer's own beginning
            return before
        return prompt + self._closing(messages, prompt)

    def answered(self, messages: Messages, answer: str) -> tuple[Tokens, int]:
        """Tokens of `messages` and the assistant's `answer` up to the answer's end, and the index of its first token.

        Raises TemplateError where the template refuses them, PromptError where it leaves nothing of the answer.
        """
        messages = self._placed(messages)
        mark = next(mark for mark in _MARKS if mark not in (answer.strip()[:1], answer.strip()[-1:]))
        before, behind = self._around(messages, mark)
        whole = self.rendered([*messages, {"role": "assistant", "content": answer}], answered=True)
        begin = common_length(whole, before + mark + behind)
        end = len(whole) - common_length(whole[begin:][::-1], (mark + behind)[::-1])
        if begin >= end:
            raise PromptError(
                f"the chat template of {self._name} leaves nothing of the answer {answer!r}: write a word"
            )
        return self._located(whole, begin, end)

    # -- text -------------------------------------------------------------------------------------------------------

    @property
    def _thinks(self) -> bool:
        return bool(self._given.get("enable_thinking") or self._given.get("thinking"))

    def _placed(self, messages: Messages) -> Messages:
        """`messages`, with a leading system message at the head of the user's turn where there is no place for one."""
        if not messages or messages[0]["role"] != "system" or self.takes_system:
            return messages
        instruction, rest = messages[0]["content"], list(messages[1:])
        if not rest or rest[0]["role"] != "user":
            return [{"role": "user", "content": instruction}, *rest]
        return [{**rest[0], "content": f"{instruction}\n\n{rest[0]['content']}"}, *rest[1:]]

    def _before_answer(self, messages: Messages) -> str:
        """The whole conversation's text before the answer; nothing where the template takes no answers."""
        try:
            return self._around(messages)[0]
        except TemplateError:  # an open prompt needs none
            return ""

    def _closing(self, messages: Messages, prompt: str) -> str:
        """What closes the thought that the template's prompt for an answer leaves open; empty where none is open."""
        if not any(begins in prompt for begins, _ in _THOUGHTS):
            return ""
        asking = prompt[common_length(prompt, self.rendered(messages, answered=True)) :]
        for begins, ends in _THOUGHTS:
            opened = asking.rfind(begins)
            if opened >= 0 and ends.strip() not in asking[opened:]:
                return ends
        return ""

    def _around(self, messages: Messages, mark: str = _MARKS[0]) -> tuple[str, str]:
        """The whole conversation's text before and after the answer to `messages`, for which `mark` stands."""
        whole = self.rendered([*messages, {"role": "assistant", "content": mark}], answered=True)
        before, found, behind = whole.rpartition(mark)
        if not found:
            raise TemplateError(
                f"the chat template of {self._name} leaves out what the assistant says, so no answer can be read with "
                "it: name another template (template: {chat_template: NAME}), or read raw text (chat: false)"
            )
        return before, behind

    def _check_name(self) -> None:
        """Refuse the argument `chat_template` where it is not the name of one of the model's own templates."""
        own, wanted = getattr(self._tokenizer, "chat_template", None), self._given.get("chat_template")
        if wanted is not None and not (isinstance(own, dict) and wanted in own):
            known = f"it has {', '.join(own)}" if isinstance(own, dict) else "it has one without a name"
            raise TemplateError(f"{self._name} has no chat template {str(wanted)[:60]!r}: {known}")

    def rendered(self, messages: Messages, answered: bool = False) -> str:
        """The template's text, ready for an answer unless `answered`. Raises TemplateError with its own words."""
        self._check_name()
        try:
            from steering_core.models.template_clock import at  # loads transformers: only where text is rendered

            with at(_date(self._given)), deadline(_SECONDS):
                text = self._tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=not answered, **self._arguments
                )
        except DeadlinePassed as error:
            raise TemplateError(
                f"the chat template of {self._name} is not done after {_SECONDS} s: it loops, so use another template "
                "(template: {chat_template: NAME}) or read raw text (chat: false)"
            ) from error
        except Exception as error:  # a template is a program of its own, and may raise anything
            raise TemplateError(self._refusal(messages, error)) from error
        return str(text)

    def _refusal(self, messages: Messages, error: Exception) -> str:
        roles = ", ".join(str(message["role"]) for message in messages)
        named = getattr(self._tokenizer, "chat_template", None)
        remedy = "change the messages, or read raw text (chat: false)"
        if isinstance(named, dict) and "chat_template" not in self._given:
            remedy = f"choose one of its templates ({', '.join(named)}) with the argument chat_template"
        words = " ".join(str(error).split())[:300] or type(error).__name__
        return f"the chat template of {self._name} refuses this conversation ({roles}): {words}; {remedy}"

    @cached_property
    def _arguments(self) -> dict[str, Any]:
        """What the template is given beside the messages."""
        return {**_DEFAULTS, **{name: value for name, value in self._given.items() if name != DATE}}

    # -- tokens -----------------------------------------------------------------------------------------------------

    def _encoded(self, text: str) -> Tokens:
        return tuple(self._tokenizer.encode(text, add_special_tokens=False))

    def _located(self, text: str, begin: int, end: int) -> tuple[Tokens, int]:
        """Tokens of `text` up to the one that holds its letter `end - 1`, and the index of the one that holds `begin`.

        A tokenizer without offsets, one written in Python, is asked for the tokens before each place instead.
        """
        tokens = self._encoded(text)
        spans = self._spans(text, tokens)
        if spans is None:
            start = common_length(tokens, self._encoded(text[:begin]))
            stop = max(start + 1, common_length(tokens, self._encoded(text[:end])))
        else:
            start = next(i for i, (_, stops) in enumerate(spans) if stops > begin)
            stop = next((i for i in range(start + 1, len(spans)) if spans[i][0] >= end), len(spans))
        return tokens[:stop], start

    def _spans(self, text: str, tokens: Tokens) -> list[tuple[int, int]] | None:
        """Where each token stands in `text`, as (first letter, the one after the last); None where nobody knows."""
        tokenizer = self._tokenizer._tokenizer
        if not getattr(tokenizer, "is_fast", False):
            return None
        encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return encoded["offset_mapping"] if tuple(encoded["input_ids"]) == tokens else None


def _date(arguments: Mapping[str, Any]) -> datetime.date:
    """What the template's clock shows. Raises ValueError for an argument that is no date."""
    return datetime.date.fromisoformat(str(arguments.get(DATE, TEMPLATE_DATE)))


def checked_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`arguments` of a chat template, without those that repeat a default.

    Raises PromptError for a date that is none, and for names that `apply_chat_template` itself takes.
    """
    if taken := sorted(_TAKEN & arguments.keys()):
        raise PromptError(f"{', '.join(taken)} cannot be an argument of a chat template: it says how text is read here")
    try:
        found = {**arguments, DATE: str(_date(arguments))}
    except ValueError:
        raise PromptError(
            f"the chat template's date {arguments[DATE]!r} is no date: write YYYY-MM-DD, as in {TEMPLATE_DATE}"
        ) from None
    usual = {**_DEFAULTS, DATE: str(TEMPLATE_DATE)}
    return {name: value for name, value in found.items() if name not in usual or usual[name] != value}
