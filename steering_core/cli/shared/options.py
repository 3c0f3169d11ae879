"""Options that several verbs take, each worded once. Nothing here needs a model, nor do all verbs that take them."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer
import yaml

from steering_core.foundation.bounds import MAX_TEMPERATURE
from steering_core.foundation.errors import PromptError
from steering_core.foundation.keys import MAX_SEED
from steering_core.reports.printing import Format

ModelArgument = Annotated[str, typer.Argument(help="A model's name, a folder, or a Hugging Face id.")]
SpecArgument = Annotated[str, typer.Argument(help="The spec: a YAML file, or a name in data/specs.")]
OneConcept = Annotated[str | None, typer.Option("--concept", help="This concept instead of the spec's.")]
OneModel = Annotated[str | None, typer.Option("--model", help="This model instead of the spec's.")]
StoreOption = Annotated[str | None, typer.Option("--store", help="Folder of the store; STEERFLOW_STORE or data/store.")]
FormatOption = Annotated[Format, typer.Option("--format", help="How rows are printed.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
SystemOption = Annotated[str | None, typer.Option("--system", help="A system prompt.")]
TemperatureOption = Annotated[float, typer.Option("--temperature", min=0, max=MAX_TEMPERATURE, help="0 is greedy.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, max=MAX_SEED, help="Of the sampling.")]
TemplateOption = Annotated[
    list[str] | None,
    typer.Option("--template", help="An argument of the chat template, as in enable_thinking=true or date=2026-01-31."),
]
SameFamily = Annotated[
    bool,
    typer.Option("--same-family", help="Allow vectors of another model of the same architecture and width."),
]


def template_arguments(given: Sequence[str] | None) -> dict[str, Any]:
    """Arguments of a chat template from NAME=VALUE, values read as YAML reads them. Raises PromptError."""
    arguments: dict[str, Any] = {}
    for one in given or []:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier():
            raise PromptError(f"--template {one}: write NAME=VALUE, as in enable_thinking=true")
        try:
            arguments[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            arguments[name] = value
    return arguments
