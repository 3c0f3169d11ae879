"""`steer generate MODEL PROMPT …`: steered texts, beside the unsteered ones with --compare."""

import logging
import sys
from typing import Annotated, Any

import typer

from steering_core.api.generate import diverged, intervention, strengths
from steering_core.api.questions import open_question
from steering_core.cli.shared.options import (
    ModelArgument,
    SameFamily,
    SeedOption,
    StoreOption,
    SystemOption,
    TemperatureOption,
    TemplateOption,
    template_arguments,
)
from steering_core.cli.shared.steering_options import SteeringOptions, grouped
from steering_core.engine.sampling import DIVERGED, Request, sample, stream
from steering_core.foundation.bounds import MAX_NEW_TOKENS
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention
from steering_core.interventions.expression import Expression
from steering_core.models import Model, open_model
from steering_core.reports.printing import Format, print_rows

app = typer.Typer()
log = logging.getLogger(__name__)


@app.command()
@grouped
def generate(
    model: ModelArgument,
    prompts: Annotated[list[str], typer.Argument(help="What to ask; several are answered in one batch.")],
    steering: SteeringOptions,
    compare: Annotated[bool, typer.Option("--compare", help="Show the unsteered text beside the steered one.")] = False,
    streamed: Annotated[bool, typer.Option("--stream", help="Print each text as it is drawn.")] = False,
    max_tokens: Annotated[int, typer.Option(min=1, max=MAX_NEW_TOKENS, help="New tokens at most.")] = 100,
    temperature: TemperatureOption = 0.0,
    seed: SeedOption = 0,
    system: SystemOption = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text itself, without the chat template.")] = False,
    stop: Annotated[list[str] | None, typer.Option(help="Text at which to stop.")] = None,
    template: TemplateOption = None,
    store: StoreOption = None,
    same_family: SameFamily = False,
    form: Annotated[
        Format, typer.Option("--format", help="How --compare and several texts are printed.")
    ] = Format.TABLE,
) -> None:
    """Generate under any intervention: --vector NAME, or --steer EXPRESSION.

    A name means what was recommended under it, at its layers and strength; --alpha or --dose, --layers and --all-layers
    say otherwise.
    """
    expression, layers = steering.expression, steering.wanted_layers
    with open_model(model, template_arguments(template)) as opened:
        done = intervention(opened, expression, store=store, layers=layers, same_family=same_family)
        if expression and (meant := strengths(opened, expression, store, layers, same_family)):
            log.info("%s", meant)
        chat = False if raw else None
        tokens = [open_question(opened, prompt, system, chat).tokens for prompt in prompts]
        requests = [Request(t, what, seed) for what in ([Intervention(), done] if compare else [done]) for t in tokens]
        if streamed and not compare and form is Format.TABLE:
            _print_streams(opened, requests, max_tokens, temperature, stop or [], done)
            return
        found = dict(sample(opened, requests, max_tokens, temperature, Work(), stop=stop or []))
        if any(s.finish == DIVERGED for s in found.values()):
            raise diverged(opened, done)
        texts = [found[i].text for i in range(len(requests))]
        _print(prompts, texts, expression, compare, form)


def _print_streams(
    model: Model, requests: list[Request], max_tokens: int, temperature: float, stop: list[str], steering: Intervention
) -> None:
    """One text after the other, each as it is drawn."""
    for request in requests:
        with stream(model, [request], max_tokens, temperature, stop) as tokens:
            for token in tokens:
                sys.stdout.write(token.text)
                sys.stdout.flush()
                if token.finish == DIVERGED:
                    raise diverged(model, steering)
        sys.stdout.write("\n")


def _print(prompts: list[str], texts: list[str], expression: Expression | None, compare: bool, form: Format) -> None:
    name = str(expression) if expression else "unsteered"
    columns = {"unsteered": texts[: len(prompts)], name: texts[-len(prompts) :]} if compare else {name: texts}
    if form is Format.TABLE and len(prompts) == 1 and not compare:
        typer.echo(texts[0])  # on a terminal `terminal.guard_stdout` makes it harmless; in a pipe it is the text
        return
    if form is Format.TABLE:
        shown: list[dict[str, Any]] = [
            {"prompt": prompt, **{column: values[i] for column, values in columns.items()}}
            for i, prompt in enumerate(prompts)
        ]
        print_rows(shown, ["prompt", *columns], form)
        return
    rows = [
        {"prompt": prompt, "intervention": column, "text": values[i]}
        for i, prompt in enumerate(prompts)
        for column, values in columns.items()
    ]
    print_rows(rows, ["prompt", "intervention", "text"], form)
