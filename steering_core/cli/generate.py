"""`steer generate MODEL PROMPT …`: steered texts, beside the unsteered ones with --compare."""

import sys
from typing import Annotated, Any

import typer

from steering_core.api.generate import diverged, intervention
from steering_core.api.options import open_question
from steering_core.cli.steering_options import (
    AllLayers,
    Alphas,
    Doses,
    LayersOption,
    PhaseOption,
    SameFamily,
    Seed,
    Steer,
    StoreOption,
    Template,
    Vectors,
    asked_for,
    layers_asked_for,
    template_arguments,
)
from steering_core.engine.sampling import DIVERGED, Request, sample, stream
from steering_core.foundation.bounds import MAX_NEW_TOKENS, MAX_TEMPERATURE
from steering_core.foundation.counting import Work
from steering_core.interventions.change import Intervention
from steering_core.interventions.expression import Expression
from steering_core.models import Model, open_model
from steering_core.reports.printing import Format, console, print_rows

app = typer.Typer()


@app.command()
def generate(
    model: Annotated[str, typer.Argument(help="A model's name, a folder, or a Hugging Face id.")],
    prompts: Annotated[list[str], typer.Argument(help="What to ask; several are answered in one batch.")],
    vector: Vectors = None,
    alpha: Alphas = None,
    dose: Doses = None,
    steer: Steer = None,
    layers: LayersOption = None,
    all_layers: AllLayers = False,
    phase: PhaseOption = "generation",
    compare: Annotated[bool, typer.Option("--compare", help="Show the unsteered text beside the steered one.")] = False,
    streamed: Annotated[bool, typer.Option("--stream", help="Print each text as it is drawn.")] = False,
    max_tokens: Annotated[int, typer.Option(min=1, max=MAX_NEW_TOKENS, help="New tokens at most.")] = 100,
    temperature: Annotated[float, typer.Option(min=0, max=MAX_TEMPERATURE, help="0 is greedy.")] = 0.0,
    seed: Seed = 0,
    system: Annotated[str | None, typer.Option(help="A system prompt.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text itself, without the chat template.")] = False,
    stop: Annotated[list[str] | None, typer.Option(help="Text at which to stop.")] = None,
    template: Template = None,
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
    expression = asked_for(vector or [], alpha or [], dose or [], steer, phase)
    with open_model(model, template_arguments(template)) as opened:
        of = layers_asked_for(layers, all_layers)
        row = intervention(opened, expression, store=store, layers=of, same_family=same_family)
        chat = False if raw else None
        tokens = [open_question(opened, prompt, system, chat).tokens for prompt in prompts]
        requests = [Request(t, what, seed) for what in ([Intervention(), row] if compare else [row]) for t in tokens]
        if streamed and not compare and form is Format.TABLE:
            _print_streams(opened, requests, max_tokens, temperature, stop or [], row)
            return
        found = dict(sample(opened, requests, max_tokens, temperature, Work(), stop=stop or []))
        if any(s.finish == DIVERGED for s in found.values()):
            raise diverged(opened, row)
        texts = [found[i].text for i in range(len(requests))]
        _print(prompts, texts, expression, compare, form)


def _print_streams(
    model: Model, requests: list[Request], max_tokens: int, temperature: float, stop: list[str], row: Intervention
) -> None:
    """One text after the other, each as it is drawn."""
    for request in requests:
        with stream(model, [request], max_tokens, temperature, stop) as tokens:
            for token in tokens:
                sys.stdout.write(token.text)
                sys.stdout.flush()
                if token.finish == DIVERGED:
                    raise diverged(model, row)
        sys.stdout.write("\n")


def _print(prompts: list[str], texts: list[str], expression: Expression | None, compare: bool, form: Format) -> None:
    name = str(expression) if expression else "unsteered"
    columns = {"unsteered": texts[: len(prompts)], name: texts[-len(prompts) :]} if compare else {name: texts}
    if form is Format.TABLE and len(prompts) == 1 and not compare:
        console().print(texts[0], markup=False, emoji=False, highlight=False, soft_wrap=True)
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
