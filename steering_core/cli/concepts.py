"""`steer concepts`: list, show, lint, new, import, generate, results."""

import contextlib
import dataclasses
import functools
import re
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from steering_core.authoring.draft import drafted, local_writer, served_writer
from steering_core.authoring.lint.check import lint
from steering_core.authoring.lint.finding import SHOWN_ROWS, Finding, shown_rows, with_beginnings
from steering_core.authoring.results import around_results, results, results_table, write_results
from steering_core.authoring.scaffold import scaffold, unwritten
from steering_core.authoring.writing import refuse_replacing, write_concept, write_new
from steering_core.cli.shared.measuring import shown_run
from steering_core.cli.shared.options import FormatOption, StoreOption
from steering_core.concepts import Concept, Split, available_concepts, load_concept, neutral_prompts
from steering_core.concepts.formats.choices import balanced
from steering_core.concepts.formats.columns import Columns, with_items
from steering_core.concepts.formats.labels import LabelColumn
from steering_core.concepts.formats.read import open_questions, read_concept
from steering_core.concepts.formats.sides import concept_of_sides
from steering_core.concepts.held_out import REMEDY, lack_of_prompts
from steering_core.foundation.bounds import MAX_NEW_TOKENS, MAX_PROMPTS, MAX_SHOWN, MAX_TEMPERATURE
from steering_core.foundation.endpoint import Endpoint, EndpointSampling
from steering_core.foundation.errors import ConceptError, SpecError
from steering_core.foundation.keys import MAX_SEED
from steering_core.foundation.validation import checked, counted
from steering_core.models import Model, open_model
from steering_core.reports.printing import Format, console, print_rows, progress_bars
from steering_core.spec import Spec
from steering_core.store import Store, default_store

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Contrast data: look at it, check it, make it, bring it in."
)

Out = Annotated[Path | None, typer.Option(help="The file to write; data/concepts/NAME.yaml.")]
Force = Annotated[bool, typer.Option("--force", help="Replace a file that is there.")]
FOLDER = Path("data", "concepts")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@app.command("list")
def list_concepts(form: FormatOption = Format.TABLE) -> None:
    """Every concept that goes by a name, with its size."""
    rows = [_row(name) for name in sorted(available_concepts())]
    print_rows(rows, ["name", "pairs", "items", "prompts", "chat", "description"], form)


def _row(name: str) -> dict[str, object]:
    try:
        concept = load_concept(name)
    except ConceptError as fault:
        unknown = dict.fromkeys(("pairs", "items", "prompts", "chat"))
        return {"name": name, **unknown, "description": f"cannot be read: {str(fault).splitlines()[0]}"}
    sizes = {"pairs": len(concept.pairs), "items": len(concept.items), "prompts": len(concept.prompts)}
    return {"name": concept.name, **sizes, "chat": concept.chat, "description": concept.description}


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A concept's name, a file, or hf:owner/name.")],
    rows: Annotated[int, typer.Option(min=0, max=MAX_SHOWN, help="How many pairs and items are shown.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole concept as JSON.")] = False,
) -> None:
    """A concept's data card, and some of its rows."""
    concept = load_concept(name)
    if as_json:
        typer.echo(concept.model_dump_json(indent=1))
        return
    out = console()
    out.print(Text(concept.name, "bold"), concept.description)
    splits = Counter(text.split for text in concept.texts if text.side == "positive" or concept.unpaired)
    sizes = ", ".join(f"{splits[split]} {split}" for split in SPLITS)
    out.print(f"{_size(concept)} ({sizes}), {_rest(concept)}")
    if lack := lack_of_prompts(concept):
        out.print(f"{lack}; {REMEDY}.", highlight=False, markup=False)
    for key, value in concept.card.model_dump(exclude={"accepted"}).items():
        if value:
            out.print(Text(key, "bold"), end=" ")
            out.print(value, highlight=False)
    pairs = [{"prompt": p.prompt, "positive": p.positive, "negative": p.negative} for p in concept.pairs[:rows]]
    texts = [t for t in concept.texts if t.ordinal < rows] if concept.unpaired else []
    lone = [{"side": t.side, "prompt": t.prompt, "text": t.text} for t in texts]
    items = [{"prompt": i.prompt, "matching": i.matching, "not_matching": i.not_matching} for i in concept.items[:rows]]
    for shown in (pairs, lone, items):
        if shown:
            print_rows(shown, list(shown[0]))


def _size(concept: Concept) -> str:
    """How much contrast there is."""
    if (texts := concept.unpaired) is not None:
        return f"{len(texts.positive)} positive and {len(texts.negative)} negative texts, unpaired"
    return counted(len(concept.pairs), "pair")


def _rest(concept: Concept) -> str:
    """How many items and open prompts there are, and whose these are where the file brought none of its own."""
    neutral = bool(concept.prompts) and {*concept.prompts} <= {*neutral_prompts()}
    whose = " (steerflow's own neutral ones; --prompts FILE of `steer concepts import` takes others)" if neutral else ""
    return f"{counted(len(concept.items), 'item')}, {counted(len(concept.prompts), 'open prompt')}{whose}"


@app.command("lint")
def lint_concepts(
    names: Annotated[list[str] | None, typer.Argument(help="Concepts or files; all that go by a name.")] = None,
    model: Annotated[str | None, typer.Option(help="Check what this model's tokenizer makes of them, too.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on warnings as well.")] = False,
    form: FormatOption = Format.TABLE,
) -> None:
    """Find what ruins vectors: leakage, giveaways, imbalance, bias. Exit 1 where a concept has an error."""
    rows: list[dict[str, object]] = []
    failed = ("error", "warning") if strict else ("error",)
    wanted = names or sorted(available_concepts())
    with open_model(model) if model else contextlib.nullcontext() as loaded:
        for name in wanted:
            concept, found = _linted(name, loaded)
            for_people = concept if form is Format.TABLE else None
            rows += [{"concept": name, **_finding(finding, for_people)} for finding in found]
    columns = ["concept", "level", "check", "message", "rows", "remedy"]
    if rows or form is not Format.TABLE:
        print_rows(rows, columns, form)
    if form is Format.TABLE:
        typer.echo(f"{counted(len(wanted), 'concept')}: {_levels([str(row['level']) for row in rows])}")
    if any(row["level"] in failed for row in rows):
        raise typer.Exit(1)


def _linted(name: str, model: Model | None) -> tuple[Concept | None, list[Finding]]:
    """A concept with what is wrong with it; None with the one finding that says why it cannot be read."""
    try:
        concept = load_concept(name)
        return concept, lint(concept, model)
    except ConceptError as fault:
        return None, [Finding("unreadable", "error", str(fault), "mend the file")]


def _levels(levels: list[str]) -> str:
    """How many findings there are of each level, and what a level means."""
    n = Counter(levels)
    said = [f"{counted(n['error'], 'error')} to mend before vectors are worth anything"] if n["error"] else []
    said += [f"{counted(n['warning'], 'warning')} of what weakens vectors or verdicts"] if n["warning"] else []
    said += [f"{n['accepted']} accepted in the card, which says why"] if n["accepted"] else []
    return ", ".join(said) or "nothing to mend"


def _finding(finding: Finding, concept: Concept | None) -> dict[str, object]:
    """A finding as a row; with `concept` its rows are few, and stand there with the beginnings of their texts."""
    rows = with_beginnings(concept, finding.rows[:SHOWN_ROWS]) if concept else finding.rows
    more = f", … {len(finding.rows) - SHOWN_ROWS} more" if concept and len(finding.rows) > SHOWN_ROWS else ""
    return dataclasses.asdict(finding) | {"rows": shown_rows(rows) + more}


@app.command()
def new(
    name: Annotated[str, typer.Argument(help="What the concept shall be called.")],
    out: Out = None,
    force: Force = False,
) -> None:
    """Scaffold a concept: a file that loads at once and says what belongs where."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConceptError(f"{name!r} cannot be a concept's name: use a to z, digits, dots, dashes and underscores")
    path = out or FOLDER / f"{name}.yaml"
    write_new(scaffold(name, str(path)), path, force)
    typer.echo(f"{path} is there: fill it in, then `steer concepts lint {path}`")


@app.command("import")
def import_concept(
    source: Annotated[
        str | None, typer.Argument(help="A file of any form that is read, or hf:owner/name[:split].")
    ] = None,
    name: Annotated[str | None, typer.Option(help="What the concept shall be called; as --out or the file is.")] = None,
    positive: Annotated[str | None, typer.Option(help="Column of the positive side; with --label its label.")] = None,
    negative: Annotated[str | None, typer.Option(help="Column of the negative side; with --label its label.")] = None,
    label: Annotated[str | None, typer.Option(help="Column that says which side a row's one text is.")] = None,
    positive_file: Annotated[str | None, typer.Option(help="A file of texts, all of the positive side.")] = None,
    negative_file: Annotated[str | None, typer.Option(help="A file of texts, all of the negative side.")] = None,
    prompt: Annotated[str | None, typer.Option(help="Column of the prompt that both sides answer.")] = None,
    unpaired: Annotated[
        bool, typer.Option("--unpaired", help="Texts of one row, or place in two files, do not belong together.")
    ] = False,
    chat: Annotated[bool | None, typer.Option("--chat/--raw", help="Through the chat template, or raw text.")] = None,
    items: Annotated[str | None, typer.Option(help="A second file whose rows are the held-out items.")] = None,
    prompts: Annotated[str | None, typer.Option(help="A file of open prompts to sample texts from.")] = None,
    balance: Annotated[bool, typer.Option("--balance", help="Exchange options until letters are even.")] = False,
    out: Out = None,
    force: Force = False,
) -> None:
    """Bring somebody else's contrast data in, as a concept file to review.

    Read are: CAA and model-written evaluations, tables with a column for either side (CSV, TSV, Parquet, JSON, JSON
    lines), rows with a label, lists of texts, splits, conversations, repeng templates, persona-vector traits, slot
    templates, concepts. What a file is, its contents say.
    """
    columns = _named_columns(positive, negative, label, prompt)
    if positive_file or negative_file:
        if source or columns or not (positive_file and negative_file):
            raise ConceptError("--positive-file and --negative-file go together, and without another file or columns")
        concept = concept_of_sides(positive_file, negative_file, name or "concept", chat, unpaired)
    elif source is None:
        raise ConceptError("name a file: steer concepts import FILE, or --positive-file FILE --negative-file FILE")
    else:
        concept = read_concept(source, columns, chat, unpaired)
    if items:
        concept = with_items(concept, read_concept(items, columns, chat))
    concept = balanced(concept) if balance else concept
    update = {
        "name": name or (out.stem if out else concept.name),
        "prompts": open_questions(prompts) if prompts else concept.prompts,
    }
    concept = checked(Concept, concept.model_dump() | update, f"the concept of {source or positive_file}", ConceptError)
    path = out or FOLDER / f"{concept.name}.yaml"
    write_concept(concept, path, force)
    typer.echo(f"{path}: {_size(concept)}, {_rest(concept)}")
    if concept.card.made:
        typer.echo(concept.card.made)
    if lack := lack_of_prompts(concept):
        typer.echo(f"{lack}; {REMEDY}.")
    if chat is None and not concept.chat:
        typer.echo("chat: false: its texts are read raw, as no prompt stands beside them; --chat makes them answers.")
    typer.echo(f"Look at it, complete its card, then `steer concepts lint {path}`")


def _named_columns(
    positive: str | None, negative: str | None, label: str | None, prompt: str | None
) -> Columns | LabelColumn | None:
    """The columns that the options name, or None where they name none. Raises ConceptError where they do not agree."""
    if bool(positive) != bool(negative):
        raise ConceptError("--positive and --negative go together: name the column (or with --label the label) of each")
    if positive and positive == negative:
        raise ConceptError(f"--positive and --negative both name {positive!r}: a contrast has two sides")
    if prompt and (label or not positive):
        raise ConceptError("--prompt goes with --positive and --negative; elsewhere the prompt is found by its name")
    if label:
        return LabelColumn(label, positive, negative)
    return Columns(positive, negative, prompt) if positive and negative else None


@app.command()
def generate(
    source: Annotated[str, typer.Argument(help="A concept or trait file with instructions, or a concept's name.")],
    model: Annotated[str | None, typer.Option(help="Draft with this local model.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Draft with a server of OpenAI's form, http://…/v1.")] = None,
    endpoint_model: Annotated[str, typer.Option(help="The model's name on that server.")] = "default",
    prompts: Annotated[str | None, typer.Option(help="File of prompts to answer; the neutral ones.")] = None,
    count: Annotated[int, typer.Option(min=1, max=MAX_PROMPTS, help="How many prompts are answered.")] = 64,
    max_tokens: Annotated[int, typer.Option(min=1, max=MAX_NEW_TOKENS, help="Longest answer.")] = 80,
    temperature: Annotated[float, typer.Option(min=0, max=MAX_TEMPERATURE, help="0 takes the likeliest word.")] = 0.8,
    seed: Annotated[int, typer.Option(min=0, max=MAX_SEED, help="Draws other answers.")] = 0,
    out: Annotated[Path | None, typer.Option(help="The file to write; data/concepts/NAME-draft.yaml.")] = None,
    force: Force = False,
) -> None:
    """Have a model draft pairs for a person to review: each prompt is answered under either instruction."""
    if (model is None) == (endpoint is None):
        raise ConceptError(
            "say who shall draft: --model smollm2-135m (or any model that steerflow opens; off-line once it is on "
            "disk), or --endpoint http://localhost:8080/v1 --endpoint-model NAME for a server that you run or rent"
        )
    concept = load_concept(source)
    if unwritten(concept):
        raise ConceptError(
            f"the instructions of {source} are those that `steer concepts new` wrote: replace them by two system "
            "prompts, under which a model shows the concept and its opposite, then draft"
        )
    path = out or FOLDER / f"{concept.name}-draft.yaml"
    refuse_replacing(path, force)  # before minutes of drafting
    asked = (open_questions(prompts) if prompts else neutral_prompts())[:count]
    sampling = EndpointSampling(max_tokens, temperature, seed)
    with progress_bars() as notify:
        progress = functools.partial(notify, "draft answers")
        if model:
            with open_model(model) as opened:
                draft = drafted(concept, asked, local_writer(opened, sampling), model, progress)
        else:
            writer = served_writer(Endpoint(endpoint or "", endpoint_model), sampling)
            draft = drafted(concept, asked, writer, endpoint_model, progress)
    write_concept(draft.concept, path, force)
    left_out = counted(len(draft.left_out), "prompt")
    typer.echo(f"{path}: {counted(len(draft.concept.pairs), 'pair')} to review; {left_out} left out")
    for why, n in Counter(why for _, why in draft.left_out).most_common():
        first = next(text for text, fault in draft.left_out if fault == why)
        typer.echo(f"  {n}: {why}, such as for {first!r}")


@app.command("results")
def concept_results(
    names: Annotated[list[str] | None, typer.Argument(help="Concepts or files; all that go by a name.")] = None,
    model: Annotated[str, typer.Option(help="The model whose activations are read.")] = "smollm2-135m",
    store: StoreOption = None,
    write: Annotated[Path | None, typer.Option(help="Put the table between the marks in this page.")] = None,
    form: FormatOption = Format.TABLE,
) -> None:
    """How well each concept's vector tells held-out sides apart, beside what shallow features tell."""
    asked = {"models": [model], "concepts": names or sorted(available_concepts())}
    spec = checked(Spec, asked, "what was asked for", SpecError)
    if write:
        around_results(write)  # before minutes of extraction
    opened = Store(store or default_store())
    with shown_run(spec, opened) as run:
        rows = results(run)
    if write:
        run.raise_failures({"results": rows})
        write_results(write, results_table(rows))
        typer.echo(f"{write}: the table of {len(rows)} concepts is written")
        return
    if rows:
        print_rows(rows, list(rows[0]), form)
    run.raise_failures({"results": rows})
