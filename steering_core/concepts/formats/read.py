"""A file of any known form as a `Concept`: which form it has, its contents say."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from steering_core.concepts.concept import Concept
from steering_core.concepts.formats.columns import Columns, concept_of_rows, found_columns, listed
from steering_core.concepts.formats.contents import Contents, read_contents
from steering_core.concepts.formats.hub import HUB, hub_contents
from steering_core.concepts.formats.labels import LabelColumn, found_labels, labelled_rows
from steering_core.concepts.formats.personas import REPENG_KEYS, repeng_concept, trait_concept
from steering_core.concepts.formats.refusal import refusal
from steering_core.concepts.formats.repeats import without_repeats
from steering_core.concepts.formats.shapes import as_rows
from steering_core.concepts.formats.sides import texts_in
from steering_core.concepts.templates import Template, expanded
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.validation import checked

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ContrastForm:
    """One form of contrast data: how it is recognised, and how it becomes a concept of some name."""

    name: str
    keys: str
    recognises: Callable[[Contents], bool]
    concept: Callable[[Contents, str], Concept]


def _has(*keys: str) -> Callable[[Contents], bool]:
    return lambda contents: contents.mapping is not None and any(key in contents.mapping for key in keys)


def _template(contents: Contents, name: str) -> Concept:
    return expanded(checked(Template, contents.mapping, contents.source, ConceptError), name)


def _concept(contents: Contents, name: str) -> Concept:
    given, repeated = without_repeats(contents.source, {"name": name} | dict(contents.mapping or {}))
    concept = checked(Concept, given, f"the concept {contents.source}", ConceptError)
    if repeated:
        log.warning("%s: %s", contents.source, repeated)
    if "chat" not in given and concept.chat:
        log.info(
            "%s: its pairs have prompts and `chat` is not given, so all goes through the model's chat template; "
            "`chat: false` reads raw text",
            concept.name,
        )
    return concept


def _rows(contents: Contents, name: str) -> Concept:
    columns = found_columns(contents.columns)
    assert columns is not None, "only rows with the columns of a contrast are recognised"
    return concept_of_rows(contents, name, columns)


def _labelled(contents: Contents, name: str) -> Concept:
    labels = found_labels(contents)
    assert labels is not None, "only rows with known labels are recognised"
    rows, columns = labelled_rows(contents, labels)
    return concept_of_rows(rows, name, columns)


def _has_columns(contents: Contents) -> bool:
    return found_columns(contents.columns) is not None


def _has_labels(contents: Contents) -> bool:
    return found_labels(contents) is not None


ROWS = "positive and negative (or pos/neg, chosen/rejected, answer_matching_behavior/…), prompt or question"
FORMS = (
    ContrastForm(
        "repeng", "template, positive_personas, negative_personas, suffixes", _has(*REPENG_KEYS), repeng_concept
    ),
    ContrastForm(
        "persona vectors", "instruction: [{pos, neg}], questions", _has("instruction", "questions"), trait_concept
    ),
    ContrastForm("template", "template: {positive, negative}, slots", _has("template", "slots"), _template),
    ContrastForm(
        "concept",
        "name, pairs: [{prompt, positive, negative}] or unpaired, items, prompts",
        _has("pairs", "unpaired", "name"),
        _concept,
    ),
    ContrastForm("rows", ROWS, _has_columns, _rows),
    ContrastForm("labelled rows", "label (true or false), completion or text, prompt", _has_labels, _labelled),
)


def read_concept(
    source: str | Path, columns: Columns | LabelColumn | None = None, chat: bool | None = None, unpaired: bool = False
) -> Concept:
    """The concept in a file of any known form, or in a hub's dataset (`hf:owner/name`).

    `columns` says which columns of a table hold the sides, or which holds the label of each row, where their names do
    not; `chat` overrides whether texts go through the chat template. `unpaired` takes the texts of a table's sides, or
    of rows with labels, as texts that do not belong together. Raises ConceptError with every fault, or with the
    forms that there are.
    """
    text = str(source)
    contents = hub_contents(text) if text.startswith(HUB) else read_contents(Path(source))
    name = _name_of(text)
    if columns is not None or not any(form.recognises(contents) for form in FORMS):
        contents = as_rows(contents)
    if unpaired:
        columns = columns or found_columns(contents.columns) or found_labels(contents)
        contents = _unpaired(contents, columns)
    if isinstance(columns, LabelColumn):
        rows, sides = labelled_rows(contents, columns, unpaired)
        return concept_of_rows(rows, name, sides, chat)
    if columns is not None:
        return concept_of_rows(_with_columns(contents, columns), name, columns, chat)
    form = next((form for form in FORMS if form.recognises(contents)), None)
    if form is None:
        raise ConceptError(refusal(contents, [f"{form.name}: {form.keys}" for form in FORMS]))
    concept = form.concept(contents, name)
    return concept if chat is None else concept.model_copy(update={"chat": chat})


def _unpaired(contents: Contents, columns: Columns | LabelColumn | None) -> Contents:
    if columns is None:
        raise ConceptError(
            f"{contents.source} has no columns of texts to take as unpaired: name them, as in "
            "`steer concepts import FILE --positive COLUMN --negative COLUMN --unpaired`"
        )
    return replace(contents, unpaired=isinstance(columns, Columns))


def open_questions(source: str | Path) -> tuple[str, ...]:
    """The open prompts in a file: lines, a list of strings, or rows with a column of texts (CAA's open sets)."""
    return tuple(dict.fromkeys(texts_in(source, "open prompt")))


def _name_of(source: str) -> str:
    """A concept's name from a path or a dataset's name, with a dash for whatever a name may not hold."""
    stem = source.removeprefix(HUB).split(":")[0] if source.startswith(HUB) else Path(source.removesuffix(".gz")).stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._") or "concept"


def _with_columns(contents: Contents, columns: Columns) -> Contents:
    wanted = [c for c in (columns.positive, columns.negative, columns.prompt) if c]
    if missing := [c for c in wanted if c not in contents.columns]:
        there = listed(contents.columns) or "none"
        raise ConceptError(
            f"{contents.source} has no column {listed(missing)}; there are: {there}. "
            "`--positive`, `--negative` and `--prompt` of `steer concepts import` each name one of them"
        )
    return contents
