"""A name whose verdict does not say that it steers: it steers, and says so wherever somebody steers by it."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

import steering_core as steer
from steering_core.api.generate import intervention
from steering_core.explorer.routes.openai import WARNED
from steering_core.foundation.errors import SteeringWarning
from steering_core.models import Model
from steering_core.store import Store
from tests.explorer import serving
from tests.sailors import LAYERS, STEER, recommend, saved_at

SAID = (
    "the verdict on sailor is 'no better than random', so that a change in the text may be chance: `steer report` says "
    "what the verdict rests on"
)


def judged(shelf: Store, sailors: Sequence[steer.Vector], **found: str | float) -> Store:
    one, two = (sailors[layer].vector_id for layer in LAYERS)
    recommend(shelf, sailors[1], [one, two], f"30%*{one} + 10%*{two} @generation", **found)
    return shelf


@pytest.fixture
def unproven(shelf: Store, sailors: list[steer.Vector]) -> Store:
    """Both layers of `sailor` together were found no better than random, at a dose that no damage bounds."""
    return judged(shelf, sailors, verdict="no better than random")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("sailor", [SAID]),  # once, of two layers
        ("5%*sailor/1 @all; 5%*sailor/2", [SAID]),
        ("-sailor", [SAID]),
        ("clamp(sailor/1, 80%)", []),  # nothing is added
        ("sailor/3", ["no strength was given or recommended for sailor/3"]),
    ],
)
def test_it_is_said_once(
    tiny: Model, unproven: Store, expression: str, said: list[str], recwarn: pytest.WarningsRecorder
) -> None:
    done = intervention(tiny, expression, store=unproven.root)
    warned = [str(one.message) for one in recwarn if one.category is SteeringWarning]
    assert warned == list(done.cautions)
    assert [caution[: len(begin)] for caution, begin in zip(done.cautions, said, strict=True)] == said


@pytest.mark.parametrize("verdict", ["works", "weak"])
def test_a_verdict_that_it_steers_says_nothing(
    tiny: Model, shelf: Store, sailors: list[steer.Vector], verdict: str
) -> None:
    assert intervention(tiny, "sailor", store=judged(shelf, sailors, verdict=verdict).root).cautions == ()


def test_the_latest_verdict_counts_and_a_dose_beyond_what_is_safe_is_told_as_well(
    tiny: Model, unproven: Store, sailors: list[steer.Vector]
) -> None:
    judged(unproven, sailors, verdict="too few to tell", safe_dose=0.5)  # a day later
    with pytest.warns(SteeringWarning):
        beyond, doubt = intervention(tiny, "80%*sailor", store=unproven.root).cautions
    assert beyond.startswith("a dose of 0.8 of sailor is beyond 0.5, up to which it was measured as safe")
    assert doubt.startswith("the verdict on sailor is 'too few to tell'")
    judged(unproven, sailors, verdict="works", safe_dose=0.5, dose=0.4)
    assert intervention(tiny, "sailor", store=unproven.root).cautions == ()


def test_a_vector_of_ones_own_is_told_by_its_name(tiny: Model, shelf: Store, sailors: list[steer.Vector]) -> None:
    mine = saved_at(tiny, shelf, "mine", 3)
    recommend(shelf, sailors[1], [mine.vector_id], f"30%*{mine.vector_id} @generation", verdict="no better than random")
    with pytest.warns(SteeringWarning, match="the verdict on mine is 'no better than random'"):
        intervention(tiny, "mine", store=shelf.root)


def test_the_command_line_and_the_server_say_it(tiny_folder: Path, unproven: Store) -> None:
    model = str(tiny_folder)
    at = ("--store", str(unproven.root), "--max-tokens", "2")
    done = subprocess.run(
        [STEER, "generate", model, "Hello", "--vector", "sailor", *at], capture_output=True, text=True, check=True
    )
    assert done.stderr.count(SAID.partition("`steer report`")[0]) == 1, done.stderr
    assert f"steer report --store {unproven.root}" in done.stderr  # as one would type it
    with serving(unproven, models=[model]) as client:
        asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 2}
        steering = {"expression": "sailor"}
        answer = client.post("/v1/chat/completions", json={**asked, "steering": steering})
        assert answer.headers[WARNED] == SAID
        shown = client.post("/api/steer", json={"model": model, "prompt": "Hello", "steering": steering}).text
        assert shown.count(SAID) == 1


def test_vectors_that_were_found_say_it_too(tiny: Model, unproven: Store) -> None:
    found = steer.find_vectors(tiny, "sailor", unproven.root)
    with pytest.warns(SteeringWarning) as seen:
        steer.generate(tiny, "Hello", found, max_tokens=1)
    assert [str(one.message) for one in seen] == [SAID]
