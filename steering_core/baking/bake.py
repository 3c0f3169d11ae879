"""`bake`: a model with an intervention inside it, written as a folder that plain mlx-lm opens."""

import dataclasses
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from steering_core.baking.adapter import adapter_weights, write_adapter
from steering_core.baking.bakeable import Bakeable, bakeable
from steering_core.baking.card import Baked, card
from steering_core.baking.comparison import FormTexts, Measuring, as_found, concept_of
from steering_core.baking.folder import emptied, staged, write_folder
from steering_core.baking.forms import forms
from steering_core.baking.proof import Difference, Logits, difference, probe_logits, relative_errors, runtime_logits
from steering_core.baking.writers import embedding_of
from steering_core.candidates.cell import Cell
from steering_core.concepts import Concept
from steering_core.foundation.cautions import warn
from steering_core.foundation.errors import NotBakeable
from steering_core.foundation.version import VERSION
from steering_core.interventions.expression import Expression
from steering_core.interventions.parsing import parse
from steering_core.models import Model
from steering_core.models.code import allow_code
from steering_core.models.embedded import EMBEDDED
from steering_core.models.mlx_lm import apply_adapter, stored_network
from steering_core.models.shared_names import shared_identity
from steering_core.store import Store, default_store
from steering_core.vectors.keyed import by_key
from steering_core.vectors.library import find
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector

PROVENANCE = "steerflow.json"


@dataclass(frozen=True)
class Asked:
    """What is to be baked: the expression as it was given, and what weights hold of it (`wanted`).

    `by_key` is the expression with keys in place of names, `vectors` are its vectors, and `concepts` the name of each
    vector's concept, by vector_id.
    """

    expression: Expression
    by_key: Expression
    vectors: tuple[Vector, ...]
    concepts: dict[str, str | None]
    wanted: Bakeable
    embeddings: bool


def bake(
    model: str,
    steer: str | Expression,
    out: str | os.PathLike[str],
    *,
    store: str | os.PathLike[str] | None = None,
    adapter: bool = False,
    embeddings: bool = False,
    measure: bool = True,
) -> Baked:
    """Write the model `model` with `steer` inside it to the new folder `out`; with `adapter` only what is changed.

    `steer` acts at every token: "30%*formality @all" adds a vector, "!refusal @all" takes a direction out of every
    matrix that writes into the stream up to its layer, and with `embeddings` out of the embeddings as well. The result
    is held against the runtime before `out` appears, and measured where the store has the concept's items.

    Raises NotBakeable, with the nearest expression that can be baked, and OutputError where `out` is not free.
    """
    opened_store = Store.existing(store or default_store())
    with Model(model) as opened, staged(Path(out), opened.folder) as folder:
        asked = _asked(opened, opened_store, steer, embeddings)
        concept = concept_of(opened_store, asked.vectors) if measure else None
        found = as_found(opened_store, concept, opened.identity.model_id, asked.vectors) if concept else None
        runtime = runtime_logits(opened, asked.wanted, embedding_of(opened.network) if embeddings else None)
        measuring = _measuring(opened, opened_store, asked, concept) if concept else None
        opened.close()
        written = _adapted if adapter else _written
        baked, seen = written(folder, opened, asked, runtime, measuring.seen if measuring else lambda model: None)
        baked = dataclasses.replace(baked, folder=Path(out), found=found)
        if measuring and seen:
            as_run, as_baked = (measuring.measured(opened, form) for form in (measuring.runtime, seen))
            baked = dataclasses.replace(baked, runtime=as_run, measured=as_baked)
        (folder / "README.md").write_text(card(baked), encoding="utf-8")
    return baked


def _asked(model: Model, store: Store, steer: str | Expression, embeddings: bool) -> Asked:
    """What is to be baked, checked against the model. Raises as `bake` does."""
    expression = parse(steer) if isinstance(steer, str) else steer

    def named(name: str) -> Vector:
        """The vector of that name among the model's. Raises VectorNotFound, or VectorAmbiguous for several."""
        return find(store, name, model.identity)

    n_layers = model.identity.n_layers
    intervention = resolved(expression, named, n_layers)
    intervention.check(n_layers, model.identity.width)
    for caution in intervention.cautions:
        warn(caution)
    wanted = bakeable(expression, intervention)
    keyed, vectors = by_key(expression, named, n_layers)
    if embeddings and not wanted.removals:
        raise NotBakeable("the embeddings lose a direction that is taken out (!NAME), and this adds vectors alone")
    names = {vector.vector_id: _concept_name(store, vector) for vector in vectors}
    return Asked(expression, keyed, vectors, names, wanted, embeddings)


def _concept_name(store: Store, vector: Vector) -> str | None:
    rows = store.rows("SELECT name FROM raw.concepts WHERE concept_id = ?", [vector.concept_id])
    return rows[0]["name"] if rows else None


def _measuring(model: Model, store: Store, asked: Asked, concept: Concept) -> Measuring:
    """The untouched model and the runtime under the same expression, measured."""
    vectors = {vector.vector_id: vector for vector in asked.vectors}
    cell = Cell(model.identity.model_id, concept.concept_id, asked.by_key, tuple(vectors.values()))
    return Measuring.of(model, store, concept, cell)


MeasureForm = Callable[[Model], FormTexts | None]


def _written(
    folder: Path, model: Model, asked: Asked, runtime: Logits, look: MeasureForm
) -> tuple[Baked, FormTexts | None]:
    """The first form that gives the runtime's logits, in `folder`, and how it looks. Raises NotBakeable for none."""
    network, config = stored_network(model.folder)
    refused: list[str] = []
    for form in forms(network, config, asked.wanted, asked.embeddings):
        emptied(folder)
        about = _noted(folder, model, asked, form.says)
        write_folder(folder, model.folder, form, {"steerflow": json.dumps(about, ensure_ascii=False)})
        if form.module is not None:
            allow_code(str(folder))  # the module that was just written
        with Model(str(folder)) as baked:
            far = difference(probe_logits(baked), runtime)
            if far.holds or form.requantised:
                worst = max(relative_errors(form.requantised), default=None)
                code = form.module is not None
                return Baked(folder, _base(model), "model", form.says, code, far, worst, about), look(baked)
        refused.append(f"{form.says}: {_off(far)}")
    raise NotBakeable(f"{model.name} has no place for {str(asked.expression)!r}; {'; '.join(refused)}")


def _adapted(
    folder: Path, model: Model, asked: Asked, runtime: Logits, look: MeasureForm
) -> tuple[Baked, FormTexts | None]:
    """The change as an adapter in `folder`. Raises NotBakeable where it has no low rank, or mlx-lm applies another."""
    network, _ = stored_network(model.folder)
    weights = adapter_weights(network, asked.wanted, asked.embeddings)
    says = f"a LoRA adapter of rank {len(asked.wanted.removals)} on {len(weights) // 2} matrices"
    about = _noted(folder, model, asked, says)
    write_adapter(folder, network, weights, {"steerflow": json.dumps(about, ensure_ascii=False)})
    with Model(model.name) as adapted:
        apply_adapter(adapted.network, folder)
        far = difference(probe_logits(adapted), runtime)
        if not far.holds:
            raise NotBakeable(f"{model.name}, {says}: {_off(far)}")
        return Baked(folder, _base(model), "adapter", says, False, far, None, about), look(adapted)


def _base(model: Model) -> str:
    """The model as mlx-lm opens it: embedded ones, and a named revision of one on the hub, by their folder."""
    return str(model.folder) if model.name in EMBEDDED or "@" in model.name else model.name


def _off(far: Difference) -> str:
    return (
        f"a logit differs from the runtime's by {far.largest:.2g}, where the intervention moves one by {far.effect:.2g}"
    )


def _noted(folder: Path, model: Model, asked: Asked, says: str) -> dict[str, Any]:
    """The provenance, after it was written to `folder`."""
    about = provenance(model, asked, says)
    (folder / PROVENANCE).write_text(json.dumps(about, ensure_ascii=False, indent=1), encoding="utf-8")
    return about


def provenance(model: Model, asked: Asked, says: str) -> dict[str, Any]:
    """Where a baked folder comes from, as JSON."""
    identity = shared_identity(model.identity)
    return {
        "steerflow": VERSION,
        "mlx-lm": version("mlx-lm"),
        "baked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "expression": str(asked.expression),
        "how": says,
        "model": {"name": identity.name, "model_id": identity.model_id, "architecture": identity.architecture},
        "vectors": [
            {
                "vector_id": vector.vector_id,
                "concept": asked.concepts[vector.vector_id],
                "concept_id": vector.concept_id,
                "method": vector.method,
                "layer": vector.layer,
                "norm": vector.norm,
                "residual_norm": vector.residual_norm,
                "lineage": vector.lineage,
            }
            for vector in asked.vectors
        ],
    }
