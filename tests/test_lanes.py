"""Lanes: passes side by side give what they give alone, each in a stream of its own."""

from pathlib import Path

import numpy as np
import pytest

from steering_core.activations import capture
from steering_core.activations.extract import extract
from steering_core.backend.mlx import mx, on_cpu
from steering_core.engine.lanes import lanes, together
from steering_core.models import Model
from steering_core.models.cpu import compiled
from steering_core.prompts import Prompt
from steering_core.store import Store


def test_together_gives_each_result_in_order() -> None:
    x = mx.arange(12.0).reshape(3, 4)
    found = together([lambda k=k: (x + k) @ x.T for k in range(lanes())], lambda product: product)
    for k, product in enumerate(found):
        np.testing.assert_array_equal(np.array(product), np.array((x + k) @ x.T))


@pytest.mark.skipif(not on_cpu(), reason="a GPU has one lane")
def test_a_compiled_function_runs_in_the_stream_that_calls_it() -> None:
    traced = []

    @compiled
    def double(x: mx.array) -> mx.array:
        traced.append(str(mx.default_stream(mx.default_device())))
        return 2 * x

    with mx.stream(mx.new_stream(mx.default_device())):
        there = double(mx.array([1.0]))
    here = double(mx.array([1.0]))
    double(mx.array([3.0]))
    assert there.item() == here.item() == 2
    assert len(traced) == len(set(traced)) == 2  # once in each stream, and not again


def test_extraction_is_the_same_in_one_lane_and_in_several(
    tiny: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = np.random.default_rng(0)
    stems = [tuple(drawn.integers(4, 250, 40).tolist()) for _ in range(3)]
    ends = [tuple(drawn.integers(4, 250, n).tolist()) for n in (2, 5, 9)]
    prompts = [Prompt(s + e, "", 40, tiny.identity.tokenizer_id) for s in stems for e in ends]
    found = []
    for n in (1, 2, 4):
        monkeypatch.setattr(capture, "lanes", lambda n=n: n)
        store = Store(tmp_path / str(n))
        extract(tiny, store, prompts, [0, 2], "mean")
        rows = store.rows("SELECT activation FROM raw.activations ORDER BY prompt_id, layer")
        found.append(np.array([row["activation"] for row in rows]))
    assert found[0].shape == (18, tiny.identity.width)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5, atol=1e-6)
