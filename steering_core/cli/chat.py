"""`steer chat MODEL`: talk to a model, and change its steering between any two messages."""

import difflib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import typer

from steering_core.api.generate import intervention, pieces, strengths
from steering_core.api.options import StorePath
from steering_core.cli.shared.options import (
    SameFamily,
    SeedOption,
    StoreOption,
    SystemOption,
    TemperatureOption,
    TemplateOption,
    template_arguments,
)
from steering_core.cli.shared.steering_options import SteeringOptions, grouped
from steering_core.cli.shared.talking import Left, talk
from steering_core.engine.sampling import Request, stream
from steering_core.foundation.bounds import MAX_NEW_TOKENS, dose_in
from steering_core.interventions.change import Intervention
from steering_core.interventions.declarations import ADD
from steering_core.interventions.expression import Amount, Clause, Expression, Term
from steering_core.interventions.parsing import parse
from steering_core.models import Model, open_model
from steering_core.prompts import conversation
from steering_core.vectors.library import WantedLayers

app = typer.Typer()

TEMPERATURE = 0.7  # as specs and the explorer have it: at 0 a small model soon repeats itself
OFF = ("off", "none")  # what somebody says after a command of STEERING who wants none
STEERING = ("/vector", "/steer", "/alpha", "/dose")
COMMANDS = {
    "/vector NAME": "steer with this vector, as it is recommended; /vector off for none",
    "/alpha A": "its strength: a multiplier, or a dose such as 30%; /alpha alone as recommended",
    "/dose D": "its strength relative to the residual stream: 0.3, or 30%; /dose alone as recommended",
    "/steer EXPRESSION": "steer with an expression: 0.6*formality - french @all; /steer off for none",
    "/show": "the steering as it is",
    "/system TEXT": "a system prompt, from a new conversation on",
    "/temperature T": "0 is greedy",
    "/tokens N": "the longest answer",
    "/again": "answer the last message anew, under the steering as it is now",
    "/clear": "begin a new conversation",
    "/help": "this list",
    "/quit": "leave; so does the end of input",
}


@dataclass
class ChatSession:
    """A conversation with a model. Each answer reads all of it anew, under the steering as it is then."""

    model: Model
    steering: Expression | None = None
    store: StorePath = None
    layers: WantedLayers = None
    same_family: bool = False
    max_tokens: int = 300
    temperature: float = TEMPERATURE
    seed: int = 0
    system: str | None = None
    messages: list[dict[str, str]] = field(default_factory=list)

    def hear(self, line: str) -> Iterator[str]:
        """What to print after one line: an answer piece by piece, or what a command says. Raises Left."""
        if not line.strip():
            return
        if not line.startswith("/"):
            yield from self._answer([*self.messages, {"role": "user", "content": line}])
            return
        word, _, rest = line.strip().partition(" ")
        command = getattr(self, f"_{word[1:]}", None) if any(c.split()[0] == word for c in COMMANDS) else None
        if command is None:
            known = [one.split()[0] for one in COMMANDS]
            near = (
                ["/vector off"]
                if word[1:] in OFF
                else [one for one in known if one.startswith(word)] or difflib.get_close_matches(word, known, n=1)
            )
            yield f"there is no command {word}: {f'did you mean {near[0]}? ' if near else ''}/help lists them\n"
            return
        text = rest.strip()
        yield from self._vector("") if word in STEERING and text.lower() in OFF else command(text)

    def check(self) -> None:
        """Raise what is wrong with the steering."""
        self._intervention(self.steering)

    def _answer(self, messages: list[dict[str, str]]) -> Iterator[str]:
        steering = self._intervention(self.steering)
        head = [{"role": "system", "content": self.system}] if self.system else []
        tokens = conversation(self.model, [*head, *messages]).tokens
        answer = []
        with stream(self.model, [Request(tokens, steering, self.seed)], self.max_tokens, self.temperature) as drawn:
            for piece in pieces(self.model, drawn, steering):
                answer.append(piece)
                yield piece
        yield "\n"
        self.messages = [*messages, {"role": "assistant", "content": "".join(answer)}]

    def _intervention(self, steering: Expression | None) -> Intervention:
        return intervention(self.model, steering, store=self.store, layers=self.layers, same_family=self.same_family)

    def _steer(self, text: str) -> Iterator[str]:
        steering = parse(text)
        self._intervention(steering)  # unknown vectors are told now
        self.steering = steering
        yield from self._show("")

    def _vector(self, name: str) -> Iterator[str]:
        if not name:
            self.steering = None
            yield from self._show("")
            return
        yield from self._steer(name)

    def _alpha(self, text: str) -> Iterator[str]:
        yield from self._strength(text.removeprefix("+"), "/alpha")

    def _dose(self, text: str) -> Iterator[str]:
        try:
            written = str(Amount.of_dose(dose_in(text))) if text else ""
        except ValueError:
            yield f"{text!r} is not a dose: give a number or a percentage, as in /dose 0.3 or /dose 30%\n"
            return
        yield from self._strength(written, "/dose")

    def _strength(self, written: str, command: str) -> Iterator[str]:
        if self.steering is None:
            yield "nothing is steered: choose a vector with /vector NAME\n"
            return
        if any(clause.operation != ADD.name for clause in self.steering.clauses) or self._terms() != 1:
            yield f"{command} sets the strength of one vector: say what you want with /steer\n"
            return
        (clause,) = self.steering.clauses
        (term,) = parse(f"{written}*x" if written else "x").clauses[0].terms
        changed = Clause(**{**vars(clause), "terms": (Term(clause.terms[0].vector, term.strength),)})
        yield from self._steer(str(Expression((changed,))))

    def _terms(self) -> int:
        return sum(len(clause.terms) for clause in self.steering.clauses) if self.steering else 0

    def _show(self, _: str) -> Iterator[str]:
        yield f"steering: {self.shown_steering()}\n"

    def shown_steering(self) -> str:
        """The steering as it was typed, with the layers and strengths that its names mean; `none` without one."""
        if self.steering is None:
            return "none"
        meant = strengths(self.model, self.steering, self.store, self.layers, self.same_family)
        return f"{self.steering}{f' ({meant})' if meant else ''}"

    def _system(self, text: str) -> Iterator[str]:
        self.system = text or None
        yield from self._clear("")

    def _temperature(self, text: str) -> Iterator[str]:
        try:
            self.temperature = max(0.0, float(text))
            yield f"temperature {self.temperature:g}\n"
        except ValueError:
            yield f"{text!r} is not a temperature: give a number, as in /temperature 0.7\n"

    def _tokens(self, text: str) -> Iterator[str]:
        try:
            self.max_tokens = max(1, int(text))
            yield f"at most {self.max_tokens} tokens\n"
        except ValueError:
            yield f"{text!r} is not a number of tokens: give one, as in /tokens 200\n"

    def _again(self, _: str) -> Iterator[str]:
        asked = [i for i, message in enumerate(self.messages) if message["role"] == "user"]
        if not asked:
            yield "nothing has been said yet\n"
            return
        yield from self._answer(self.messages[: asked[-1] + 1])

    def _clear(self, _: str) -> Iterator[str]:
        self.messages = []
        yield "a new conversation\n"

    def _help(self, _: str) -> Iterator[str]:
        yield "".join(f"{command:<20} {says}\n" for command, says in COMMANDS.items())

    def _quit(self, _: str) -> Iterator[str]:
        raise Left


def _hint(session: ChatSession) -> str:
    """What to type next: how the steering ends, or begins, and where the other commands are."""
    steers = "/vector off ends it" if session.steering else "/vector NAME steers"
    return f"{steers}, /help lists the commands."


@app.command()
@grouped
def chat(
    model: Annotated[str, typer.Argument(help="A chat model's name, a folder, or a Hugging Face id.")],
    steering: SteeringOptions,
    system: SystemOption = None,
    max_tokens: Annotated[int, typer.Option(min=1, max=MAX_NEW_TOKENS, help="The longest answer.")] = 300,
    temperature: TemperatureOption = TEMPERATURE,
    seed: SeedOption = 0,
    template: TemplateOption = None,
    store: StoreOption = None,
    same_family: SameFamily = False,
) -> None:
    """Chat with a model; /dose 30% and /vector formality change the steering on the fly.

    Answers are sampled at temperature 0.7 from one seed, so the same conversation is answered alike; /temperature 0 is
    greedy.
    """
    expression, layers = steering.expression, steering.wanted_layers
    with open_model(model, template_arguments(template)) as opened:
        this = ChatSession(opened, expression, store, layers, same_family, max_tokens, temperature, seed, system)
        this.check()
        if sys.stdin.isatty():
            sys.stdout.write(f"{model}, steering: {this.shown_steering()}. {_hint(this)}\n")
        talk(this.hear, sys.stdout.write)
