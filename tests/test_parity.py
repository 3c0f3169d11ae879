"""Activations, mean vectors and next tokens agree with PyTorch's and steering-vectors' on the embedded model.

tests/data/parity_sentiment.* is a small extract of numbers that transformers 4.57 (one prompt at a time, float32) and
steering-vectors 0.12.2 gave for 24 pairs: all pairs' token ids and top-1 next tokens, six layers' mean and pca vectors,
and the last token's hidden states of the first six pairs.
"""

import json
from pathlib import Path

import numpy as np
import pytest

from steering_core.activations.extract import extract
from steering_core.activations.sites import SITE
from steering_core.backend.mlx import mx
from steering_core.models import Model
from steering_core.prompts import Prompt, prompt
from steering_core.store import Store
from steering_core.vectors.methods import METHODS

DATA = Path(__file__).parent / "data"
TOLERANCE = 1e-3

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def oracle() -> dict[str, np.ndarray]:
    """The other implementation's numbers: hidden_last (12, L, D), mean and pca (L, D), top1 (48,), layers (L,)."""
    with np.load(DATA / "parity_sentiment.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def prompts(real: Model) -> list[Prompt]:
    """Positive 0, negative 0, positive 1, …: the order of the oracle's rows."""
    pairs = json.loads((DATA / "parity_sentiment.json").read_text())
    return [prompt(real, pair[side], chat=False) for pair in pairs for side in ("positive", "negative")]


@pytest.fixture(scope="module")
def activations(
    real: Model, prompts: list[Prompt], oracle: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> np.ndarray:
    """Our activations of every prompt, (48, L, D), extracted into a store and read back by key."""
    layers = oracle["layers"].tolist()
    store = Store(tmp_path_factory.mktemp("parity") / "store")
    extract(real, store, prompts, layers, "last")
    rows = store.rows(
        "SELECT prompt_id, layer, activation FROM raw.activations WHERE site = ? AND position = 'last'", [SITE]
    )
    found = {(row["prompt_id"], row["layer"]): row["activation"] for row in rows}
    return np.array([[found[p.prompt_id, layer] for layer in layers] for p in prompts], np.float32)


def relative_error(found: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """|found - expected| / |expected| over the last axis."""
    return np.linalg.norm(found - expected, axis=-1) / np.linalg.norm(expected, axis=-1)


def test_our_tokens_are_the_other_tokenizers(prompts: list[Prompt]) -> None:
    pairs = json.loads((DATA / "parity_sentiment.json").read_text())
    expected = [tuple(pair[f"{side}_ids"]) for pair in pairs for side in ("positive", "negative")]
    assert [p.tokens for p in prompts] == expected


def test_activations_are_pytorchs_hidden_states(activations: np.ndarray, oracle: dict[str, np.ndarray]) -> None:
    expected = oracle["hidden_last"]
    assert relative_error(activations[: len(expected)], expected).max() < TOLERANCE


def test_mean_vectors_are_steering_vectors(activations: np.ndarray, oracle: dict[str, np.ndarray]) -> None:
    for i in range(len(oracle["layers"])):
        found = METHODS["mean_difference"](activations[0::2, i], activations[1::2, i])
        assert relative_error(found, oracle["mean"][i]) < TOLERANCE


def test_top_tokens_are_pytorchs(real: Model, prompts: list[Prompt], oracle: dict[str, np.ndarray]) -> None:
    for length in {len(p.tokens) for p in prompts}:
        rows = [i for i, p in enumerate(prompts) if len(p.tokens) == length]
        logits = real.network(mx.array([prompts[i].tokens for i in rows]))[:, -1]  # (B, V)
        np.testing.assert_array_equal(np.array(mx.argmax(logits, axis=-1)), oracle["top1"][rows])
