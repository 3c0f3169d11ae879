"""Commands that follow from a recommendation, as a person would type them."""

import shlex
from pathlib import Path, PurePath

from steering_core.evaluation.verdicts import WEAK, WORKS
from steering_core.models.shared_names import MODEL_FOLDER, is_path
from steering_core.runs import stored_spec
from steering_core.store import Row, Store
from steering_core.store.commands import at_store, store_option
from steering_core.vectors.called import in_names

STORE_FOLDER = "STORE_FOLDER"
"""Stands in a command that is given to others for the folder of a store."""


def next_command(store: Store, row: Row) -> str:
    """What helps after a verdict: to steer, or, where nothing was found that steers, to see what the concept lacks."""
    if row["verdict"] in (WORKS, WEAK):
        return at_store(_steering(store, row), store.root)
    return f"steer concepts lint {shlex.quote(_concept_as_given(store, row))}"


def leads_to(row: Row) -> str:
    """What `next_command` is for, in a few words; empty where it steers, as that needs none."""
    return "" if row["verdict"] in (WORKS, WEAK) else "What the concept may lack:"


def _concept_as_given(store: Store, row: Row) -> str:
    """What the run's spec calls a recommendation's concept, a file or a name; the name where no spec tells."""
    name, given = str(row["concept"]), stored_spec(store, row["spec_key"]).get("concepts")
    given = [text for text in given if isinstance(text, str)] if isinstance(given, list) else []
    called_so = [text for text in given if PurePath(text).stem == name]
    files = called_so or given
    return name if name in given or len(files) != 1 else files[0]


def shared_command(store: Store, row: Row) -> str:
    """`next_command` for readers elsewhere: MODEL_FOLDER and STORE_FOLDER stand for folders of this machine.

    A concept is called by its name, wherever its file lies.
    """
    model = MODEL_FOLDER if is_path(row["model"]) else row["model"]
    return without_store_path(next_command(store, {**row, "model": model, "spec_key": None}), store)


def without_store_path(command: str, store: Store) -> str:
    """A command for readers elsewhere: STORE_FOLDER stands for the path of a store on this machine."""
    here, elsewhere = (shlex.join(option) for option in (store_option(store.root), ["--store", STORE_FOLDER]))
    return command.replace(here, elsewhere) if here and isinstance(store.root, Path) else command


def _steering(store: Store, row: Row) -> str:
    """The command that steers as a recommendation does: by the concept's name, where that says all of it."""
    head = f"steer generate {shlex.quote(row['model'])} 'PROMPT'"
    keys = [f"*{vector_id}" for vector_id in row.get("vector_ids") or []]
    terms = row["intervention"].removesuffix(" @generation").split(" + ")
    named = bool(keys) and len(terms) == len(keys) and all(t.endswith(k) for t, k in zip(terms, keys, strict=True))
    named = named and "(" not in row["intervention"] and row.get("concept") is not None
    if named and _is_meant_by_the_concept(store, row):
        return f"{head} --vector {shlex.quote(row['concept'])}"
    return f"{head} --steer {shlex.quote(in_names(store, row['intervention']))}"


def _is_meant_by_the_concept(store: Store, row: Row) -> bool:
    """Whether the concept's name means the vectors of a recommendation: they are its own, or one a layer."""
    sql = "SELECT layer, concept_id FROM raw.vectors WHERE list_contains(?, vector_id)"
    vectors = store.rows(sql, [row["vector_ids"]])
    own = all(vector["concept_id"] == row["concept_id"] for vector in vectors)
    return own or len({vector["layer"] for vector in vectors}) == len(row["vector_ids"])
