"""A shelf of vectors: a made-up concept `sailor` with one at each layer, of which two were recommended together."""

import dataclasses
import datetime
import sys
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import Result
from typer.testing import CliRunner

import steering_core as steer
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.pipeline.rows import concept_row
from steering_core.store import Store
from steering_core.vectors import saving
from tests.stored import made_up_concept

LAYERS = (1, 2)
STEER = Path(sys.executable).with_name("steer")


def sailor_at(model: Model, concept_id: str, layer: int) -> steer.Vector:
    direction = np.random.default_rng(layer).standard_normal(model.identity.width)
    made = steer.Vector.from_numpy(model, direction, layer)
    return dataclasses.replace(made, concept_id=concept_id, method="mean_difference")


def shelf_in(folder: Path, tiny: Model, sailors: list[steer.Vector]) -> Store:
    """A store in which layers 1 and 2 of `sailor` are recommended together, at doses 0.3 and 0.1."""
    store = Store(folder / "shelf")
    store.append("models", [dataclasses.asdict(tiny.identity)])
    store.append("concepts", [concept_row(made_up_concept("sailor"))])
    saving.save(store, sailors)
    one, two = (sailors[layer].vector_id for layer in LAYERS)
    recommend(store, sailors[1], [one, two], f"30%*{one} + 10%*{two} @generation")
    return store


def recommend(store: Store, vector: steer.Vector, ids: list[str], expression: str, **measured: float | str) -> None:
    def row(table: str, **known: Any) -> dict[str, Any]:
        return {**dict.fromkeys(store.query(f"SELECT * FROM raw.{table} LIMIT 0").column_names), **known}

    key = f"{expression} {measured}"
    known = {"recommendation_id": key, "model_id": vector.model_id, "concept_id": vector.concept_id}
    store.append(
        "recommendations", [row("recommendations", **known, vector_ids=ids, intervention=expression, **measured)]
    )
    started = datetime.datetime(2026, 1, 1 + len(measured), tzinfo=datetime.UTC)
    store.append("runs", [row("runs", run_id=key, started_at=started, recommendation_ids=[key])])


def doses(done: Intervention, sailors: list[steer.Vector]) -> dict[int, float]:
    return {c.layer: round(sailors[c.layer].dose(c.amount), 6) for c in done.changes}


def run(app: object, *arguments: str, said: str | None = None) -> Result:
    done = CliRunner().invoke(app, list(arguments), input=said)
    assert done.exit_code == 0, done.output
    return done


def saved_at(model: Model, store: Store, name: str, layer: int) -> steer.Vector:
    made = steer.Vector.from_numpy(model, np.arange(1, 33), layer=layer, residual_norm=2.0)
    return steer.save_vector(model, made, name, store.root)
