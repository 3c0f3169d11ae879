"""`steer monitor MODEL --probes a,b`: what vectors say of a conversation, token by token and turn by turn."""

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from steering_core.api.generate import diverged, intervention
from steering_core.api.monitor import watched
from steering_core.cli.shared.named_vectors import names_in
from steering_core.cli.shared.options import (
    FormatOption,
    ModelArgument,
    SeedOption,
    StoreOption,
    TemperatureOption,
    TemplateOption,
    template_arguments,
)
from steering_core.cli.shared.steering_options import SteeringOptions, SteerOption
from steering_core.cli.shared.talking import talk
from steering_core.engine.sampling import DIVERGED, Request, stream
from steering_core.foundation.bounds import MAX_NEW_TOKENS
from steering_core.foundation.errors import InterventionError, PromptError
from steering_core.foundation.json_values import plain
from steering_core.interventions.change import Intervention
from steering_core.models import Model, open_model
from steering_core.monitors.conversation import Monitored, Watched, monitor, read_conversation
from steering_core.monitors.gates import verdict
from steering_core.prompts import conversation as opened_conversation
from steering_core.reports.printing import Format, console, print_rows

app = typer.Typer()
Talk = Annotated[Path | None, typer.Option(help="A JSON file: a list of messages with role and content.")]
Chatting = Annotated[bool, typer.Option("--chat", help="Talk, and see each answer's projections as it is drawn.")]
_VERDICT = ["mean", "max", "threshold", "above", "false_alarm_rate"]
_WIDE = 60  # letters of a turn that a table shows


@app.command("monitor")
def monitor_command(
    model: ModelArgument,
    probes: Annotated[str, typer.Option(help="Vectors that read along, by name: a,b.")],
    conversation: Talk = None,
    text: Annotated[str | None, typer.Option(help="A raw text instead.")] = None,
    chat: Chatting = False,
    tokens: Annotated[bool, typer.Option("--tokens", help="A row for each token, not for each turn.")] = False,
    steer: SteerOption = None,
    max_tokens: Annotated[int, typer.Option(min=1, max=MAX_NEW_TOKENS, help="The longest answer of a chat.")] = 300,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 0,
    template: TemplateOption = None,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Read along with a conversation, a text or a chat; verdicts say more once `steer vectors gate` has fitted one."""
    if sum([conversation is not None, text is not None, chat]) != 1:
        raise PromptError("say what to monitor: --conversation FILE, --text TEXT or --chat, one of them")
    if steer is not None and not chat:
        raise InterventionError("--steer acts on the answers of a chat: add --chat, or leave it out")
    names = names_in(probes, "--probes")
    with open_model(model, template_arguments(template)) as opened:
        readers = watched(opened, names, store)
        if chat:
            steering = intervention(opened, SteeringOptions(steer=steer).expression, store=store)
            one = _Chat(opened, readers, steering, max_tokens, temperature, seed)
            talk(one.answer, partial(console().print, end="", highlight=False, soft_wrap=True))
            return
        found = monitor(opened, read_conversation(conversation) if conversation else text or "", readers)
    if tokens:
        print_rows(_token_rows(found), ["position", "token", "phase", *found.probes], form)
    else:
        print_rows(_turn_rows(found, form), ["turn", "phase", "probe", *_VERDICT, "text"], form)


def _token_rows(found: Monitored) -> list[dict[str, Any]]:
    rows = []
    for place, (token, phase) in enumerate(zip(found.tokens, found.phases, strict=True)):
        read = dict(zip(found.probes, found.values[:, place].tolist(), strict=True))
        rows.append({"position": place, "token": json.dumps(token, ensure_ascii=False), "phase": phase, **read})
    return rows


def _turn_rows(found: Monitored, form: Format) -> list[dict[str, Any]]:
    rows = []
    for place, turn in enumerate(found.turns):
        text = " ".join(turn.text.split())
        shown = text[:_WIDE] + "…" * (len(text) > _WIDE) if form is Format.TABLE else turn.text
        for name, said in turn.verdicts.items():
            read = {key: said[key] for key in _VERDICT}
            rows.append(plain({"turn": place, "phase": turn.phase, "probe": name, **read, "text": shown}))
    return rows


class _Chat:
    """A conversation whose answers are read along."""

    def __init__(
        self,
        model: Model,
        probes: Sequence[Watched],
        steering: Intervention,
        longest: int,
        temperature: float,
        seed: int,
    ) -> None:
        self._model, self._probes, self._steering = model, probes, steering
        self._longest, self._temperature, self._seed = longest, temperature, seed
        self._messages: list[dict[str, str]] = []

    def answer(self, line: str) -> Iterator[Text | str]:
        """Pieces of the answer, coloured by the first probe's projection, and then the verdicts.

        Nothing for an empty line. Raises Diverged.
        """
        if not line.strip():
            return
        messages = [*self._messages, {"role": "user", "content": line}]
        tokens = opened_conversation(self._model, messages).tokens
        read: list[tuple[float, ...]] = []
        said = []
        request = Request(tokens, self._steering, self._seed, probes=tuple(one.probe for one in self._probes))
        with stream(self._model, [request], self._longest, self._temperature) as drawn:
            for token in drawn:
                if token.finish == DIVERGED:
                    raise diverged(self._model, self._steering)
                read.append(token.projections)
                said.append(token.text)
                yield Text(token.text, style=_style(self._probes[0], token.projections[0]))
        self._messages = [*messages, {"role": "assistant", "content": "".join(said)}]
        yield "\n"
        for one, values in zip(self._probes, zip(*read, strict=True), strict=True):
            yield f"[{one.name}] {_said(verdict(values, one.gate))}\n"


def _style(one: Watched, value: float) -> str:
    """Red along the vector, blue against it, from a twentieth of the layer's residual norm on."""
    edge = 0.05 * one.vector.residual_norm
    return "red" if value > edge else "blue" if value < -edge else ""


def _said(found: dict[str, Any]) -> str:
    text = f"mean {found['mean']:+.2f} over {found['tokens']} tokens"
    if found["threshold"] is None:
        return f"{text}; no gate: `steer vectors gate` fits one"
    side = "above" if found["above"] else "below"
    return f"{text}, {side} its gate {found['threshold']:.2f} (false alarms {found['false_alarm_rate']:.0%})"
