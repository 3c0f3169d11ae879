"""Mean residual norms of a model's layers, for vectors that come without one: doses are relative to them."""

from collections.abc import Sequence

from steering_core.activations.extract import extract
from steering_core.models import Model
from steering_core.store import Store
from steering_core.vectors.vector import norm_prompts


def residual_norms(store: Store, model: Model, layers: Sequence[int]) -> dict[int, float]:
    """Mean residual norm of each layer over `norm_prompts`, by layer; the store gets the activations."""
    prompts = norm_prompts(model)
    extract(model, store, prompts, layers, "last")
    rows = store.rows(
        "SELECT layer, avg(residual_norm)::DOUBLE AS norm FROM raw.activations WHERE model_id = ? "
        "AND site = 'resid_post' AND position = 'last' AND list_contains(?, layer) AND list_contains(?, prompt_id) "
        "GROUP BY layer",
        [model.identity.model_id, list(layers), [p.prompt_id for p in prompts]],
    )
    return {row["layer"]: row["norm"] for row in rows}
