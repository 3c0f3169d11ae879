"""What Python is given that it cannot take: one error each, which names what was given and what is wanted."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import steering_core as steer
from steering_core.foundation.errors import QueryError, VectorError, VectorMismatch
from steering_core.models import Model
from steering_core.store import Store


@pytest.fixture
def own(tiny: Model) -> Callable[..., steer.Vector]:
    """A vector of the tiny model, of what is given in place of a direction and layer of its own."""

    def made(direction: Any = None, layer: int = 1, **named: Any) -> steer.Vector:
        values = np.arange(32.0) + layer if direction is None else direction
        return steer.Vector.from_numpy(tiny, values, layer, residual_norm=1.0, **named)

    return made


@pytest.mark.parametrize(
    ("sides", "says"),
    [
        ((["a"], ["a"]), "mean_difference finds no direction in 1 pair: both sides have the same activations"),
        ((b"glad", b"sad"), "the positive side is b'glad', bytes, of which .decode() makes a text"),
        (("glad", b"sad"), "one side is a text and the other a bytes"),
        ((["a", float("nan")], ["b", "c"]), "the positive text 1 is nan, no text"),
        ((["a", "d"], ["b", None]), "the negative text 1 is None, no text"),
        ((["a"], [None, "b"]), "the negative text 0 is None, no text"),
        ((None, ["b"]), "the positive side is None: give texts"),
        (({"a": 1}, ["b"]), "the positive side is a dict: give texts"),
        (([], ["b"]), "the set of unpaired texts has 1 fault:\n  positive: give at least 1 item, not 0"),
    ],
)
def test_a_contrast_says_what_is_no_text(tiny: Model, sides: tuple[Any, Any], says: str) -> None:
    with pytest.raises(VectorError, match=re.escape(says)) as caught:
        steer.contrast(tiny, *sides, layer=1)
    assert "YAML" not in str(caught.value)


def test_a_contrast_takes_texts_from_a_generator(tiny: Model) -> None:
    texts = [["What a day", "I love it"], ["What a bore", "I hate it"]]
    found = steer.contrast(tiny, *((text for text in side) for side in texts), layer=1)
    np.testing.assert_array_equal(found.direction, steer.contrast(tiny, *texts, layer=1).direction)


def test_unpaired_texts_are_no_single_text() -> None:
    with pytest.raises(VectorError, match="the positive side is a str: give texts"):
        steer.unpaired("glad", "sad")


def test_a_pair_says_which_side_is_no_text(tiny: Model) -> None:
    with pytest.raises(VectorError, match="the negative side of pair 1 is None, no text"):
        steer.derive_vector(tiny, [("a", "b"), ("c", None)], 1)  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"direction": np.ones(31), "name": "probe"}, "the vector probe cannot be one of"),
        ({"direction": np.ones(31)}, "the direction cannot be one of .*: take one that was made of this model's"),
        ({"layer": 40}, r"the direction cannot be .* of layer 40, and there are layers 0\.\.\d+: name one"),
        ({"direction": np.full(32, np.nan)}, "32 of its numbers are nan or inf: look for them in what it was made of"),
        ({"direction": np.zeros(32)}, "its direction is zero: give one that points somewhere"),
        ({"direction": np.ones(32, complex)}, "holds complex numbers: give real ones, such as direction.real"),
        ({"direction": np.ones(32, bool)}, "holds truth values: give numbers"),
        ({"direction": ["1"] * 32}, "is no list of numbers: it holds texts"),
        ({"name": "my probe!"}, "'my probe!' cannot be a vector's name"),
        ({"name": "0123456789"}, "'0123456789' cannot be a vector's name"),
    ],
)
def test_a_direction_of_ones_own_is_refused_by_its_name_with_a_remedy(
    own: Callable[..., steer.Vector], given: dict[str, Any], says: str
) -> None:
    with warnings.catch_warnings(), pytest.raises(VectorError, match=says):
        warnings.simplefilter("error")
        own(**given)


@pytest.mark.parametrize("factor", [float("nan"), float("inf"), np.float32("nan")])
def test_a_vector_times_what_is_not_finite_says_so(own: Callable[..., steer.Vector], factor: float) -> None:
    with pytest.raises(VectorError, match="times a vector is none: give a finite number"):
        own() * factor


def test_a_vector_over_zero_is_one_error(own: Callable[..., steer.Vector]) -> None:
    with pytest.raises(VectorError, match="divided by 0"):
        own() / 0
    np.testing.assert_allclose((own() / 2).direction, own().direction / 2)


def test_a_sum_that_overflows_is_not_called_zero(own: Callable[..., steer.Vector]) -> None:
    with np.errstate(over="ignore"), pytest.raises(VectorError, match="numbers that are nan or inf"):
        own() * 1e308 * 1e308
    with pytest.raises(VectorError, match="leaves no direction: the result is zero"):
        own() - own()


def test_vectors_of_two_layers_are_named_and_steer_as_a_list(tiny: Model, own: Callable[..., steer.Vector]) -> None:
    one, other = own(layer=0, name="mine"), own(layer=1, name="yours")
    says = r"vectors mine \(.*\) and yours \(.*; a list of both, \[v, w\], steers by each at its own layer"
    with pytest.raises(VectorMismatch, match=says):
        one + other
    assert steer.generate(tiny, "Hi", [one, other], dose=0.1, max_tokens=2) is not None


def test_what_is_no_sql_is_one_error_without_another_behind_it(store: Store) -> None:
    with pytest.raises(QueryError, match="a query is a text of SQL, not a int"):
        store.query(3)  # type: ignore[arg-type]
    for ask in (store.query, store.answer, store.rows):
        with pytest.raises(QueryError, match="nowhere") as caught:
            ask("SELECT * FROM nowhere")
        assert caught.value.__suppress_context__
