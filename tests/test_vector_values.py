"""Vectors as values in Python: what is saved is what is found, what does not fit is refused, and arithmetic."""

import dataclasses
from typing import Any

import numpy as np
import pytest

import steering_core as steer
from steering_core.foundation.errors import (
    InterventionError,
    VectorError,
)
from steering_core.models import Model
from steering_core.store import Store
from steering_core.vectors import saving


def test_what_is_saved_is_what_is_found(tiny: Model, shelf: Store) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    other = dataclasses.replace(joy, direction=-joy.direction)  # the same key, another direction
    steer.save_vector(tiny, joy, "joy", shelf.root)
    saved = steer.save_vector(tiny, other, "other", shelf.root)
    np.testing.assert_array_equal(steer.find_vector(tiny, "other", shelf.root).direction, -joy.direction)
    assert saved.vector_id != joy.vector_id
    assert steer.find_vector(tiny, "joy", shelf.root).vector_id == joy.vector_id
    steer.save_vector(tiny, joy, "bliss", shelf.root)
    assert steer.find_vector(tiny, "joy", shelf.root).vector_id == joy.vector_id  # the first name stays
    np.testing.assert_array_equal(steer.find_vector(tiny, "bliss", shelf.root).direction, joy.direction)
    with pytest.raises(VectorError, match="another direction under the key"):
        saving.save(shelf, [other])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"direction": np.ones(100, np.float32)}, "size 100, and the residual stream has width 32"),
        ({"layer": 99}, r"layer 99, and there are layers 0\.\.3"),
        ({"direction": np.full(32, np.nan, np.float32)}, "32 of its numbers are nan or inf"),
        ({"direction": np.zeros(32, np.float32)}, "is zero"),
    ],
)
def test_a_vector_that_does_not_fit_its_model_is_not_saved(
    tiny: Model, shelf: Store, change: dict[str, Any], said: str
) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    with pytest.raises(VectorError, match=said):
        steer.save_vector(tiny, dataclasses.replace(joy, **change), "joy", shelf.root)
    given = {"direction": joy.direction, "layer": 2} | change
    with pytest.raises(VectorError, match=said):
        steer.Vector.from_numpy(tiny, given["direction"], given["layer"])


def test_a_direction_of_ones_own_is_filled_in(tiny: Model, shelf: Store) -> None:
    w = np.random.default_rng(0).standard_normal((1, 32))  # as scikit-learn's coef_
    mine = steer.Vector.from_numpy(tiny, w, layer=2, name="probe")
    assert (mine.layer, mine.direction.shape) == (2, (32,))
    assert mine.residual_norm > 0
    steer.save_vector(tiny, mine, store=shelf.root)
    assert steer.find_vector(tiny, "probe", shelf.root) == mine
    with pytest.raises(VectorError, match="under a name"):
        steer.save_vector(tiny, steer.Vector.from_numpy(tiny, w, layer=2), store=shelf.root)


def test_vectors_are_added_and_multiplied(tiny: Model) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    calm = steer.contrast(tiny, "All is calm.", "What a storm!", layer=2)
    made = 2 * joy - calm / 4 + np.float64(0.5) * -calm
    np.testing.assert_allclose(made.direction, 2 * joy.direction - 0.75 * calm.direction, rtol=1e-5, atol=1e-5)
    with pytest.raises(TypeError):
        joy * "two"  # type: ignore[operator]
    assert "contrast at layer 2, position last, width 32" in repr(joy)


def test_a_strength_is_alpha_or_dose(tiny: Model) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    by_dose = steer.generate(tiny, "Hello", joy, dose=0.9, max_tokens=8)
    assert by_dose == steer.generate(tiny, "Hello", joy, alpha=joy.alpha(0.9), max_tokens=8)
    with pytest.raises(InterventionError, match="not both"):
        steer.generate(tiny, "Hello", joy, alpha=1, dose=1)
    with pytest.raises(TypeError, match=r"no option 'max_token'.*max_tokens"):
        steer.generate(tiny, "Hello", joy, max_token=3)  # type: ignore[call-arg]


def test_several_turns_are_a_list_of_messages(tiny: Model) -> None:
    said = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."}]
    turn = [*said, {"role": "user", "content": "More"}]
    one, several = (steer.generate(tiny, text, max_tokens=8) for text in ("More", turn))
    assert one != several
    assert steer.generate(tiny, turn[-1:], max_tokens=8) == one
    assert "".join(steer.stream(tiny, turn, max_tokens=8)) == several


def test_lists_are_pairs_and_of_unequal_length_unpaired(tiny: Model) -> None:
    pairs = [("I love it", "I hate it"), ("Joy!", "Grief!")]
    lists = steer.contrast(tiny, [a for a, _ in pairs], [b for _, b in pairs], layer=1)
    assert lists == steer.derive_vector(tiny, pairs, layer=1)
    apart = steer.contrast(tiny, ["a", "b"], ["c"], layer=1)
    assert apart == steer.derive_vector(tiny, steer.unpaired(["a", "b"], ["c"]), layer=1) != lists
    with pytest.raises(VectorError, match="one side is a text"):
        steer.contrast(tiny, "a", ["c"], layer=1)


def test_models_and_stores_say_what_they_are(tiny: Model, shelf: Store) -> None:
    assert ": llama, 4 layers, width 32, float32, " in repr(tiny)
    assert repr(shelf).endswith("1 models, 1 concepts, 4 vectors, 1 recommendations>")
