"""Mean residual norms of a model's layers, for vectors that come without one: doses are relative to them."""

from collections.abc import Sequence

from steering_core.activations.extract import extract
from steering_core.concepts import neutral_prompts
from steering_core.models import Model
from steering_core.prompts import prompt
from steering_core.store import Store

NEUTRAL = 16  # prompts that are measured where the store knows nothing of a layer


def residual_norms(store: Store, model: Model, layers: Sequence[int]) -> dict[int, float]:
    """Mean residual norm of each layer: over the store's activations, or else over a few neutral prompts."""
    known = _stored(store, model, layers)
    if missing := [layer for layer in layers if layer not in known]:
        prompts = [prompt(model, text, chat=False) for text in neutral_prompts()[:NEUTRAL]]
        extract(model, store, prompts, missing, "last")
        known |= _stored(store, model, missing)
    return known


def _stored(store: Store, model: Model, layers: Sequence[int]) -> dict[int, float]:
    rows = store.rows(
        "SELECT layer, avg(residual_norm)::DOUBLE AS norm FROM raw.activations "
        "WHERE model_id = ? AND site = 'resid_post' AND list_contains(?, layer) GROUP BY layer",
        [model.identity.model_id, list(layers)],
    )
    return {row["layer"]: row["norm"] for row in rows}
