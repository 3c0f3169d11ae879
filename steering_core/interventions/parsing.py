"""Parsing: the text of an expression to its clauses, or a caret under its first fault. The grammar is a file beside."""

import json
import re
from collections.abc import Iterable
from functools import cache
from importlib.resources import files
from typing import Any

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedInput, VisitError
from lark.tree import Meta
from lark.visitors import v_args

from steering_core.foundation.bounds import MAX_LAYER
from steering_core.foundation.errors import InterventionError
from steering_core.foundation.suggestions import did_you_mean
from steering_core.interventions.change import LARGEST, SMALLEST
from steering_core.interventions.declarations import ABLATE, called_by_name, declared
from steering_core.interventions.expression import Amount, Between, Clause, Expression, Term, VectorName, When
from steering_core.interventions.where import PHASES, Schedule

MAX_TOKENS = 1_000_000  # that a prompt could have


def parse(text: str) -> Expression:
    """The expression in `text`. Raises InterventionError with a caret under the first fault."""
    try:
        tree = _parser(called_by_name()).parse(text)
        return Expression(_TreeReader().transform(tree), text)
    except UnexpectedInput as fault:
        token = getattr(fault, "token", None)
        at = len(text) if token is not None and token.type == "$END" else fault.pos_in_stream or 0
        raise InterventionError(fault_at(text, at, _unexpected(text, at, fault))) from None
    except VisitError as fault:
        if isinstance(fault.orig_exc, _Fault):
            raise InterventionError(fault_at(text, fault.orig_exc.column, str(fault.orig_exc))) from None
        raise


def stored(text: str | None) -> Expression | None:
    """The expression that a row of the store holds; None where it cannot be read.

    An operation may have been registered where the row was made, and a row that another program wrote may hold null.
    """
    try:
        return parse(text) if text else None
    except InterventionError:
        return None


def fault_at(text: str, column: int, what: str) -> str:
    """A message that shows `text` with a caret under `column`."""
    line = " ".join(text.splitlines()) if "\n" in text else text
    return f"the intervention cannot be read: {what}\n  {line}\n  {' ' * column}^"


@cache
def _parser(operations: tuple[str, ...]) -> Lark:
    grammar = (files("steering_core.interventions") / "expression.lark").read_text()
    grammar += rf"OPERATION.3: /({'|'.join(operations)})(?=\s*\()/" + "\n"
    return Lark(grammar, parser="lalr", start="expression", maybe_placeholders=True, propagate_positions=True)


class _Fault(Exception):
    """What is wrong with a text that the grammar allows, and the column where it stands."""

    def __init__(self, column: int, what: str) -> None:
        super().__init__(what)
        self.column = column


class _TreeReader(Transformer[Token, tuple[Clause, ...]]):
    """The parser's tree as clauses; one method a rule."""

    def expression(self, clauses: list[Clause]) -> tuple[Clause, ...]:
        """All clauses of an expression."""
        return tuple(clauses)

    def clause(self, parts: list[Any]) -> Clause:
        """A clause: what is done, and at which layers, tokens and phase."""
        action, modifiers = parts[0], parts[1:]
        given: dict[str, Any] = {}
        for column, key, value in modifiers:
            if key in given:
                raise _Fault(column, f"{key} is given twice")
            given[key] = value
        places = [key for key in ("positions", "last", "span") if key in given]
        if len(places) > 1:
            raise _Fault(modifiers[-1][0], f"{' and '.join(places)} are two ways to say which tokens: give one")
        return Clause(**action, **given)

    def add(self, parts: list[Any]) -> dict[str, Any]:
        """`0.6*formality - french`: a sum of vectors that is added."""
        return {"terms": parts[0]}

    def ablated(self, parts: list[Any]) -> dict[str, Any]:
        """`!refusal`: a direction that is taken out."""
        return {"terms": (Term.read(parts[0], None),), "operation": ABLATE.name}

    def operation(self, parts: list[Any]) -> dict[str, Any]:
        """`clamp(name, amount)`: an operation by its name, with a blend and its amount."""
        name, blend, amount = parts
        operation = declared(str(name))
        if amount is None and not operation.optional:
            raise _Fault(name.start_pos, f"{name} needs a second part, its {operation.amount}")
        if amount is not None and amount.percent and operation.percent is None:
            raise _Fault(name.start_pos, f"{name} takes no percentage: give its {operation.amount}")
        return {"terms": blend, "operation": str(name), "amount": amount}

    def blend(self, parts: list[Any]) -> tuple[Term, ...]:
        """`0.6*a - b`: terms with their signs."""
        terms = [parts[0]]
        for sign, term in zip(parts[1::2], parts[2::2], strict=True):
            terms.append(term.negated() if sign == "-" else term)
        return tuple(terms)

    def sign(self, parts: list[Token]) -> str:
        """`+` or `-` between two terms."""
        return str(parts[0])

    def term(self, parts: list[Any]) -> Term:
        """`-0.6*name`: a vector and its strength, negated where a minus stands before it."""
        minus, strength, vector = parts
        term = Term.read(vector, _amount(strength) if strength else None)
        return term.negated() if minus else term

    def named(self, parts: list[Any]) -> VectorName:
        """`name[12,15]`: a name and the layers that it means."""
        return VectorName(str(parts[0]), parts[1] or (), parts[0].start_pos)

    def between(self, parts: list[Any]) -> Between:
        """`between(a, b, 0.3)`: a point on the way from one vector to another."""
        _, *ends, share = parts
        start, end = (VectorName(str(name), (), name.start_pos) for name in ends)
        return Between(start, end, _real(share))

    def amount(self, parts: list[Token]) -> Amount:
        """The number or percentage of an operation's second part."""
        return _amount(parts[0])

    def layers(self, parts: list[range]) -> tuple[int, ...]:
        """`12,15..17`: layers, each once."""
        return tuple(dict.fromkeys(layer for part in parts for layer in part))

    def layer_range(self, parts: list[Any]) -> range:
        """`15..17`, or one layer. Raises for a range that runs backwards."""
        first, last = _whole(parts[0], MAX_LAYER), _whole(parts[1] or parts[0], MAX_LAYER)
        if last < first:
            raise _Fault(parts[0].start_pos, f"layers {first}..{last} run backwards")
        return range(first, last + 1)

    def phase(self, parts: list[Token]) -> tuple[int, str, Any]:
        """`@generation`: the phase, where it stands in the text, and its field of `Clause`."""
        return parts[0].start_pos or 0, "phase", str(parts[0])

    def positions(self, parts: list[Token]) -> tuple[int, str, Any]:
        """`@positions(0,1)`: tokens of the prompt by their index."""
        return parts[0].start_pos or 0, "positions", tuple(_whole(part, MAX_TOKENS) for part in parts)

    def last(self, parts: list[Token]) -> tuple[int, str, Any]:
        """`@last(3)`: the prompt's last tokens, at least one."""
        last = _whole(parts[0], MAX_TOKENS)
        if last < 1:
            raise _Fault(parts[0].start_pos or 0, f"the last {last} tokens are none: give 1 or more")
        return parts[0].start_pos or 0, "last", last

    def span(self, parts: list[Token]) -> tuple[int, str, Any]:
        """`@span("text")`: the tokens of a text within the prompt, written as JSON writes it."""
        try:
            text = json.loads(str(parts[0]), strict=False)
            text.encode()
        except ValueError:  # a lone half of a surrogate pair as well
            what = r"a span is text as JSON writes it: its escapes are \" \\ \n \t and \uXXXX"
            raise _Fault(parts[0].start_pos or 0, what) from None
        if not text:
            raise _Fault(parts[0].start_pos or 0, "an empty span is nowhere")
        return parts[0].start_pos or 0, "span", text

    def first(self, parts: list[Token]) -> tuple[int, str, Any]:
        """`@first(20)`: the first new tokens alone."""
        return self._schedule(parts[0], Schedule("first", float(_whole(parts[0], MAX_TOKENS))))

    def decay(self, parts: list[Token]) -> tuple[int, str, Any]:
        """`@decay(0.9)`: a strength that falls with every new token."""
        return self._schedule(parts[0], Schedule("decay", _real(parts[0])))

    def _schedule(self, at: Token, schedule: Schedule) -> tuple[int, str, Any]:
        try:
            schedule.check()
        except InterventionError as fault:
            raise _Fault(at.start_pos or 0, str(fault)) from None
        return at.start_pos or 0, "schedule", schedule

    @v_args(meta=True)
    def at_layers(self, meta: Meta, parts: list[Any]) -> tuple[int, str, Any]:
        """`@layers(12)`: layers at which the clause acts."""
        return meta.start_pos, "layers", parts[0]

    def when(self, parts: list[Any]) -> tuple[int, str, Any]:
        """`@when(name > 2)`: a condition with its own threshold."""
        name, compared, threshold, over = parts
        vector = VectorName(str(name), (), name.start_pos)
        return name.start_pos, "when", When(vector, threshold, compared == ">", "prompt" if over else "token")

    def gated(self, parts: list[Any]) -> tuple[int, str, Any]:
        """`@when(gate(name))`: a condition at the threshold of the stored gate."""
        _, name, over = parts
        vector = VectorName(str(name), (), name.start_pos)
        return name.start_pos, "when", When(vector, None, over="prompt" if over else "token")


def _amount(token: Token) -> Amount:
    return Amount(_real(token), token.endswith("%"))


def _real(token: Token) -> float:
    """The number that a token writes, with or without a percent sign; one that float32 can hold."""
    value = float(token.rstrip("%"))
    if abs(value) > LARGEST:
        raise _Fault(token.start_pos or 0, f"this number is too large: {LARGEST:.3g} is the largest")
    if abs(value) < SMALLEST and any(digit in "123456789" for digit in token.lower().partition("e")[0]):
        raise _Fault(token.start_pos or 0, f"this number is too small: {SMALLEST:.3g} is the smallest beside 0")
    return value


def _whole(token: Token, most: int) -> int:
    """The whole number that a token writes, from -most to most."""
    digits = token.lstrip("-").lstrip("0") or "0"
    if len(digits) > len(str(most)) or int(digits) > most:
        raise _Fault(token.start_pos or 0, f"this number is too large: {most:,} is the largest here")
    return -int(digits) if token.startswith("-") else int(digits)


_SHOWN = {
    "NAME": "a vector's name",
    "STRENGTH": "a strength such as 0.6* or 30%*",
    "NUMBER": "a number",
    "PERCENT": "a percentage",
    "INTEGER": "a whole number",
    "LAYER": "a layer",
    "TEXT": 'a text in "quotes"',
    "PHASE": "all, prompt, generation, response, thinking, tool, system or user",
    "PLUS": "+",
    "MINUS": "-",
    "COMPARED": "> or <",
    "GATE": "gate(",
    "OVER": ", prompt",
    "BETWEEN": "between(",
    "SEMICOLON": ";",
    "BANG": "!",
    "AT": "@",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": ",",
    "__ANON_0": "..",
    "STAR": "*",
    "$END": "the end",
}


_MODIFIERS = (*PHASES, "positions", "last", "span", "first", "decay", "layers", "when")


def _unexpected(text: str, at: int, fault: UnexpectedInput) -> str:
    """What could have stood where the fault is."""
    if modifier := re.search(r"@\s*([a-z]*)$", text[: at + len(re.match(r"[a-z]*", text[at:])[0])]):  # type: ignore[index]
        meant = did_you_mean(modifier[1], _MODIFIERS)
        if meant.startswith("did"):
            return f"expected {', '.join(PHASES)}, or @layers(…) and its like; {meant}"
    if strength := re.search(
        r"(?:^|[\s+(;-])((\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?%?)\s*$", text[:at] + "%" * text[at:].startswith("%")
    ):
        return f"a strength is joined to its vector by a star, as in {strength[1]}*name"
    terminals: Iterable[str] = (
        getattr(fault, "accepts", None) or getattr(fault, "expected", None) or getattr(fault, "allowed", None) or ()
    )
    known = _SHOWN | {"OPERATION": f"an operation ({', '.join(called_by_name())})"}
    shown = sorted({known.get(name, name.lower()) for name in terminals})
    return f"expected {', '.join(shown)}"
