"""`steer judge SPEC`: whether the spec's judge may be trusted, by texts whose ratings are known."""

import dataclasses
from typing import Annotated

import typer

from steering_core.cli.shared.measuring import spec_of
from steering_core.cli.shared.options import FormatOption, OneConcept, SpecArgument, StoreOption
from steering_core.concepts.library import load_concepts
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import SpecError
from steering_core.foundation.judging import JudgeSpec
from steering_core.foundation.validation import checked
from steering_core.pipeline.rows import concept_row
from steering_core.reports.printing import Format, print_rows
from steering_core.scores.planted import checks_of, require_trusted
from steering_core.store import Store, default_store

app = typer.Typer()


@app.command()
def judge(
    spec: SpecArgument = "quickstart",
    concept: OneConcept = None,
    model: Annotated[str | None, typer.Option(help="This judge instead of the spec's.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Where that judge answers, http://…/v1.")] = None,
    store: StoreOption = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """Show the judge gibberish, texts with and without the concept, and replies to something else: does it tell?

    Exit code 2 where it may not be trusted. What it said stays in the table `planted`, and sums up in the view
    `judge_checks`.
    """
    if endpoint and not model:
        raise SpecError("--endpoint is where another judge answers: add --model NAME, or leave it out")
    wanted, opened = spec_of(spec, None, concept), Store(store or default_store())
    asked = wanted.scores.judge
    if model:
        asked = checked(JudgeSpec, {"model": model, "endpoint": endpoint}, "the judge", SpecError)
    if asked is None:
        raise SpecError(
            f"the spec {spec} names no judge: add scores.judge, or say --model NAME [--endpoint http://…/v1]"
        )
    if asked.prompt is not None:
        raise SpecError(
            f"the spec {spec} puts a question of its own: which answers texts deserve is known for rubrics alone"
        )
    concepts = load_concepts(wanted.concepts)
    opened.append("concepts", [concept_row(one) for one in concepts])
    found = [(one, checks_of(asked, one, opened, Work(), wanted.memory_limit)) for one in concepts]
    rows = [
        {"judge": asked.model, "concept": one.name, **dataclasses.asdict(check), "passed": check.passed}
        for one, checks in found
        for check in checks
    ]
    print_rows(rows, list(rows[0]), form)
    for one, checks in found:
        require_trusted(asked, one, checks)
