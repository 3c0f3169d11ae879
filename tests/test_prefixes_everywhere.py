"""On every architecture of mlx-lm that can be tapped, shared prefixes and padded batches change no activation."""

# ruff: noqa: F401, F811  (fixtures of tests/networks.py)

from dataclasses import replace

import numpy as np

from steering_core.activations.capture import Capture, Reading
from steering_core.activations.passes import Cost, plan_passes
from steering_core.foundation.counting import Work
from steering_core.models.abilities import MIXED
from steering_core.models.mlx_lm import architecture
from steering_core.prompts import Prompt
from tests.networks import Unsaved, built

STEMS = [tuple(range(1, 12)), tuple(range(19, 10, -1))]  # beyond the sliding windows of 8
ENDS = [(20,), (21, 22, 23), (24, 25), (26, 27, 28, 29), (26, 27, 1), (26, 27, 2)]  # some share a stem of their own
PROMPTS = [Prompt(stem + end, "", 2, "") for stem in STEMS for end in ENDS]
SHARING = Cost(tokens=1000, overhead=1)


class _NoSpecialTokens:
    all_special_ids = ()


class _Layers:
    def __init__(self, n_layers: int) -> None:
        self.n_layers = n_layers


def _captured(model: Unsaved, cost: Cost) -> tuple[np.ndarray, int]:
    """Means over each prompt's answer, (N, L, D), and the number of passes that continued another."""
    capture = Capture(model, PROMPTS, Reading(tuple(range(len(model.taps))), "response"), Work())
    passes = plan_passes([prompt.tokens for prompt in PROMPTS], cost)
    found = {row: v for c in capture.run(passes) for row, v in zip(c.rows, c.values, strict=True)}
    assert any(root.mixed for root in passes) == cost.mixed
    return np.stack([found[i] for i in range(len(PROMPTS))]), sum(
        max(p.offsets) > 0 for root in passes for p in root.walk()
    )


def test_shared_prefixes_change_no_activation(built: Unsaved) -> None:
    built.tokenizer = _NoSpecialTokens()  # type: ignore[assignment]
    built.identity = _Layers(len(built.taps))  # type: ignore[assignment]
    alone, none = _captured(built, Cost(tokens=1, overhead=10**6))
    padded, none_either = _captured(built, Cost(tokens=1000, overhead=10**6))
    shared, some = _captured(built, SHARING)
    assert none == none_either == 0 < some
    np.testing.assert_allclose(padded, alone, atol=2e-3 * np.abs(alone).max())
    np.testing.assert_allclose(shared, alone, atol=2e-3 * np.abs(alone).max())
    if architecture(built.network) in MIXED:
        mixed, more = _captured(built, replace(SHARING, mixed=True))
        assert more > 0
        np.testing.assert_allclose(mixed, alone, atol=2e-3 * np.abs(alone).max())
