"""What Python is given that it cannot take: one error each, which names what was given and what is wanted."""

import importlib
import logging
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

import steering_core
import steering_core as steer
from steering_core.concepts.concept import Pair, Unpaired
from steering_core.foundation.errors import (
    CapabilityError,
    ConceptError,
    InterventionError,
    LayerNotFound,
    ModelError,
    OutputError,
    PromptError,
    QueryError,
    SamplingError,
    SpecError,
    SteerflowError,
    VectorError,
    VectorMismatch,
)
from steering_core.foundation.validation import Strict
from steering_core.models import Model
from steering_core.runs import Run
from steering_core.spec import VectorsSpec
from steering_core.store import Store

PAIR = {"positive": "a", "negative": "b"}


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


@pytest.mark.filterwarnings("error")
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
        ({"name": "fröhlich"}, "'fröhlich' cannot be a vector's name: letters from a to z, digits"),
        ({"name": "0123456789"}, "'0123456789' cannot be a vector's name"),
    ],
)
def test_a_direction_of_ones_own_is_refused_by_its_name_with_a_remedy(
    own: Callable[..., steer.Vector], given: dict[str, Any], says: str
) -> None:
    with pytest.raises(VectorError, match=says):
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


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"doses": []}, InterventionError, "there are no doses"),
        ({"doses": 0.1}, InterventionError, "the doses are 0.1: give a list of numbers"),
        ({"doses": "0.1"}, InterventionError, "the doses are '0.1': give a list of numbers"),
        ({"doses": [0, 0.0]}, InterventionError, "there are no doses but 0"),
        ({"items": 0}, SpecError, "items is 0: give a whole number from 1 on"),
        ({"items": 2.5}, SpecError, "items is 2.5: give a whole number from 1 on"),
        ({"controls": -1}, SpecError, "controls is -1: give a whole number from 0 to 100"),
        ({"split": "dev"}, QueryError, "there is no split 'dev': name one of train, validation, test"),
        ({"concept": ["a text"]}, ConceptError, "or a Concept, not a list: of texts of your own make one, Concept("),
    ],
)
def test_a_dose_sweep_says_what_it_cannot_take(
    tiny: Model,
    own: Callable[..., steer.Vector],
    concept: steer.Concept,
    tmp_path: Path,
    given: dict[str, Any],
    error: type[SteerflowError],
    says: str,
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        steer.dose_sweep(tiny, own(), **({"concept": concept} | given), store=tmp_path / "store", progress=False)
    assert not (tmp_path / "store").exists()


def test_a_dose_sweep_takes_numbers_and_doses_of_numpy(
    tiny: Model, own: Callable[..., steer.Vector], concept: steer.Concept, store: Store
) -> None:
    doses = (dose for dose in np.array([0.1]))
    two = np.int64(2)
    found = steer.dose_sweep(
        tiny,
        own(),
        concept,
        doses,
        items=two,
        controls=two,
        store=store.root,
        progress=False,  # type: ignore[arg-type]
    )
    assert [row["dose"] for row in found] == [0.0, 0.1, 0.1, 0.1]


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (3, ConceptError, "not a int: of texts of your own make one, Concept(name='mine', pairs="),
        (PAIR, ConceptError, "not a dict: of texts of your own make one"),
        (Pair(**PAIR), ConceptError, "not a Pair: of texts of your own make one"),
        ([], PromptError, "there are no texts to read: give at least one"),
        (["a", None], PromptError, "text 1 is None, no text: give ['a text', …]"),
        ([("a", "b")], PromptError, "text 0 is ('a', 'b'), no text: give ['a text', …]"),
        ([b"a"], PromptError, "text 0 is b'a', bytes, of which .decode() makes a text"),
        ([{"prompt": "a"}], PromptError, "text 0 has 1 fault:\n  text: Field required"),
        (["a", ""], PromptError, "text 1 has 1 fault:\n  text: "),
    ],
)
def test_activations_are_of_a_concept_or_of_texts(
    tiny: Model, tmp_path: Path, given: Any, error: type[SteerflowError], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)):
        steer.activations(given, 1, model=tiny, store=tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_texts_are_read_by_an_open_model_and_have_no_splits(tiny: Model, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"give model=open_model\('tiny'\)"):
        steer.activations(["a"], 1, model="tiny", store=tmp_path / "none")  # type: ignore[call-overload]
    with pytest.raises(QueryError, match="texts have no splits: leave split='train' out"):
        steer.activations(["a"], 1, model=tiny, split="train", store=tmp_path / "none")  # type: ignore[call-overload]
    with pytest.raises(LayerNotFound, match="layer 9"):
        steer.activations(["a"], 9, model=tiny, store=tmp_path / "none")
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("given", [{"max_tokens": np.int64(5)}, {"seed": np.uint8(5)}])
def test_whole_numbers_of_numpy_are_whole_numbers(given: dict[str, Any]) -> None:
    (value,) = (getattr(steer.Sampling(**given), name) for name in given)
    assert (value, type(value)) == (5, int)


@pytest.mark.parametrize("given", [{"max_tokens": True}, {"seed": 1.5}, {"temperature": "warm"}, {"temperature": None}])
def test_a_sampling_of_no_numbers_is_one_error(given: dict[str, Any]) -> None:
    with pytest.raises(SamplingError, match=f"{next(iter(given))} is .*: give a"):
        steer.Sampling(**given)


@pytest.mark.parametrize("given", [{"width": -1}, {"width": 0}, {"width": 1e9}, {"scale": 0}, {"scale": float("nan")}])
def test_a_picture_has_a_size(agree_run: Path, given: dict[str, Any]) -> None:
    picture = steer.dose_response("agree", store=agree_run)
    with pytest.raises(OutputError, match=f"{next(iter(given))} is .*: give a"):
        picture.png(**given)


def test_what_is_no_spec_says_what_one_is(store: Store) -> None:
    with pytest.raises(SpecError, match="a spec is a file, a name, a mapping of its keys or a Spec, not a NoneType"):
        steer.run(None, store.root)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "level"), [(SteerflowError("no such layer"), logging.INFO), (KeyError("x"), logging.ERROR)]
)
def test_what_a_run_raises_at_its_end_is_not_also_an_error_in_the_log(
    store: Store, caplog: pytest.LogCaptureFixture, error: Exception, level: int
) -> None:
    """Python prints what is logged from a warning on, where a program sets up no logging of its own."""
    spec = steer.Spec(models=["tiny"], concepts=["agree"])
    with caplog.at_level(logging.INFO), Run(spec, store) as run, run.guard("tiny", ["agree"]):
        raise error
    assert [(record.levelno, record.message) for record in caplog.records] == [(level, "agree on tiny failed")]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: steer.Concept(name="a b", pairs=[PAIR]), ConceptError, "the concept has 1 fault:\n  name: "),
        (lambda: steer.Concept(name="a", pair=[PAIR]), ConceptError, "  pair: unknown key; did you mean 'pairs'?"),
        (lambda: steer.Concept(name="a"), ConceptError, "the concept has 1 fault:\n  has neither pairs nor unpaired"),
        (lambda: steer.Spec(models=[], concepts=["a"]), SpecError, "the spec has 1 fault:\n  models: give at least 1"),
        (lambda: Pair(positive="", negative="b"), ConceptError, "the pair has 1 fault:\n  positive: "),
        (lambda: Unpaired(positive=["a", "a"], negative=["b"]), ConceptError, "  positive: text 2 repeats text 1"),
        (lambda: VectorsSpec(controls=-1), SpecError, "the vectors spec has 1 fault:\n  controls: "),
        (
            lambda: Pair("a", "b"),
            ConceptError,
            "the fields of the pair have no order: give them by name, Pair(positive=",
        ),
    ],
)
def test_a_form_made_in_python_tells_its_faults_as_a_file_does(
    make: Callable[[], object], error: type[SteerflowError], says: str
) -> None:
    with pytest.raises(error, match=re.escape(says)) as caught:
        make()
    assert "pydantic" not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_concept_in_a_mapping_is_still_read_by_pydantic() -> None:
    concept = steer.Concept(name="a", pairs=[PAIR])  # type: ignore[list-item]
    assert steer.Concept.model_validate(concept.model_dump()) == concept
    with pytest.raises(ValidationError):
        steer.Concept.model_validate({"name": "a b", "pairs": [PAIR]})


OWN_FAULTS = {"capabilities": CapabilityError, "concepts": ConceptError, "spec": SpecError}


def forms() -> Iterator[type[BaseModel]]:
    """Every form of pydantic's that Python may be asked to make, but for those of requests to the explorer."""
    for module in pkgutil.walk_packages(steering_core.__path__, "steering_core."):
        if not module.name.startswith("steering_core.explorer") and not module.name.endswith("__main__"):
            found = vars(importlib.import_module(module.name)).values()
            made = [one for one in found if isinstance(one, type) and issubclass(one, BaseModel)]
            yield from (one for one in made if one.__module__ == module.name and one is not Strict)


def test_every_form_tells_its_faults_as_one_error_of_its_own_kind() -> None:
    checked = list(forms())
    assert {steer.Concept, steer.Spec, Pair, Unpaired, VectorsSpec} < set(checked)
    assert {one for one in map(vars(steer).get, steer.__all__) if isinstance(one, type(Strict))} <= set(checked)
    for form in checked:
        package = form.__module__.split(".")[1]
        with pytest.raises(SteerflowError, match=r"the [a-z ]+ has \d+ faults?:") as caught:
            form(no_such_key=1)
        assert package not in OWN_FAULTS or caught.type is OWN_FAULTS[package]
        with pytest.raises(SteerflowError, match="have no order: give them by name"):
            form("a value")  # type: ignore[call-arg]
