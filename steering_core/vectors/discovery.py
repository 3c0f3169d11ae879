"""Discovery: directions in the activations of prompts that nobody labelled. One function each, registered by name.

A discovery takes activations (N, D) float64, how many directions to find and a seed; it returns directions (k, D) and
the share of the prompts, or of their variance, that each stands for, largest first.
"""

from collections.abc import Callable, Sequence

import numpy as np
import scipy

from steering_core.foundation.errors import VectorError
from steering_core.foundation.keys import content_key
from steering_core.foundation.suggestions import did_you_mean
from steering_core.models import ModelIdentity
from steering_core.store import Store
from steering_core.vectors import saving
from steering_core.vectors.contrast import read_activations
from steering_core.vectors.linear import one_thread, top_components
from steering_core.vectors.vector import Vector

DISCOVERY_VERSION = 2  # 1: k-means by scikit-learn
_STARTS, _STEPS = 10, 100  # of k-means: the best of so many starts, each of so many steps
Discovery = Callable[[np.ndarray, int, int], tuple[np.ndarray, np.ndarray]]
DISCOVERIES: dict[str, Discovery] = {}


def discovery(function: Discovery) -> Discovery:
    """Register a discovery under its function's name."""
    DISCOVERIES[function.__name__] = function
    return function


@discovery
def clusters(activations: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of k-means clusters, from the mean of all, (N, D) -> (k, D), and each cluster's share of the prompts."""
    random = np.random.default_rng(seed)
    centres, labels = min((_k_means(activations, k, random) for _ in range(_STARTS)), key=_spread_in(activations))
    shares = np.bincount(labels, minlength=k) / len(activations)
    order = np.argsort(-shares, kind="stable")
    return (centres - activations.mean(axis=0))[order], shares[order]


def _k_means(activations: np.ndarray, k: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Centres (k, D) and each row's centre (N,), from one k-means++ start. Raises VectorError where one has no row."""
    try:
        centres, labels = scipy.cluster.vq.kmeans2(activations, k, iter=_STEPS, minit="++", missing="raise", rng=random)
    except scipy.cluster.vq.ClusterError as error:
        raise VectorError(f"clusters finds fewer than {k} in {len(activations)} prompts: ask for fewer") from error
    return centres, labels


def _spread_in(activations: np.ndarray) -> Callable[[tuple[np.ndarray, np.ndarray]], float]:
    """How far rows lie from their centres, squared and summed: what k-means makes small."""
    return lambda found: float(np.square(activations - found[0][found[1]]).sum())


@discovery
def components(activations: np.ndarray, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Principal directions, one standard deviation long, (N, D) -> (k, D), and each one's share of the variance.

    Each points to the side on which the single most extreme prompt lies.
    """
    rows = activations - activations.mean(axis=0)
    axes = top_components(rows, k)  # (k, D)
    along = rows @ axes.T  # (N, k)
    extreme = along[np.abs(along).argmax(axis=0), range(k)]
    variances = along.var(axis=0)
    return axes * (np.sign(extreme) * np.sqrt(variances))[:, None], variances / rows.var(axis=0).sum()


def check_discovery(method: str, k: int, n_prompts: int) -> None:
    """Raise VectorError for an unknown method, and for more directions than so many prompts can have."""
    if method not in DISCOVERIES:
        raise VectorError(f"there is no discovery {method!r}: {did_you_mean(method, DISCOVERIES)}")
    if not 2 <= k < n_prompts:
        raise VectorError(f"{k} directions from {n_prompts} prompts: ask for at least 2, and fewer than prompts")


@one_thread()
def discover(
    store: Store,
    model: ModelIdentity,
    prompt_ids: Sequence[str],
    layer: int,
    position: str,
    method: str,
    k: int,
    seed: int = 0,
) -> list[Vector]:
    """Have the store hold k directions found at one layer of stored prompts; those vectors, largest share first.

    `lineage` holds each one's `share`. Raises VectorError where the prompts are too few or too alike.
    """
    unique = sorted(set(prompt_ids))
    check_discovery(method, k, len(unique))
    values, norms = read_activations(store, model, unique, [layer], position)
    directions, shares = DISCOVERIES[method](values[0].astype(np.float64), k, seed)
    if not np.isfinite(directions).all() or (np.linalg.norm(directions, axis=1) == 0).any():
        raise VectorError(f"{method} finds fewer than {k} directions in {len(unique)} prompts: ask for fewer")
    made = {"made": "discovered", "method": method, "k": k, "seed": seed, "version": DISCOVERY_VERSION}
    key = content_key("discovery", made, model.model_id, layer, position, unique)
    vectors = [
        Vector(
            vector_id=content_key("vector", key, place),
            model_id=model.model_id,
            concept_id=None,
            method=method,
            layer=layer,
            residual_norm=float(norms.mean()),
            seed=seed,
            direction=direction.astype(np.float32),
            architecture=model.architecture,
            position=position,
            lineage={**made, "place": place, "share": float(share), "prompts": len(unique)},
        )
        for place, (direction, share) in enumerate(zip(directions, shares, strict=True))
    ]
    saving.save(store, vectors, prompt_ids={v.vector_id: unique for v in vectors})
    return vectors
