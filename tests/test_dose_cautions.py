"""Cautions of a dose: beyond what was measured, or beyond what any text bears, wherever somebody steers."""

import dataclasses
import math
import subprocess
from pathlib import Path

import pytest

import steering_core as steer
from steering_core.api.generate import intervention
from steering_core.explorer.routes.openai import WARNED
from steering_core.foundation.errors import (
    InterventionError,
    SteeringWarning,
)
from steering_core.models import Model
from steering_core.store import Store
from steering_core.store.queries import named_query
from steering_core.vectors.stored import vectors_by_id
from tests.explorer import serving
from tests.sailors import LAYERS, STEER, doses, recommend, saved_at


@pytest.fixture
def measured(shelf: Store, sailors: list[steer.Vector]) -> Store:
    """The same, and both layers together were measured as safe up to a dose of 0.5."""
    one, two = (sailors[layer].vector_id for layer in LAYERS)
    recommend(shelf, sailors[1], [one, two], f"30%*{one} + 10%*{two} @generation", safe_dose=0.5)
    return shelf


CAUTION = "a dose of 0.8 of sailor is beyond 0.5, up to which it was measured as safe: the text may fall apart; "


@pytest.mark.parametrize(
    ("expression", "cautioned"),
    [
        ("sailor", False),
        ("50%*sailor", False),
        ("80%*sailor", True),
        ("-80%*sailor", True),
        ("40%*sailor; 40%*sailor @all", True),  # together
        ("30%*sailor/1", False),
        ("clamp(sailor/1, 80%)", False),  # no dose
    ],
)
def test_a_dose_beyond_the_measured_range_warns(
    tiny: Model, measured: Store, expression: str, cautioned: bool, recwarn: pytest.WarningsRecorder
) -> None:
    done = intervention(tiny, expression, store=measured.root)
    said = [str(one.message) for one in recwarn if one.category is SteeringWarning]
    assert said == list(done.cautions) == ([f"{CAUTION}stay within 50%*sailor"] if cautioned else [])


def test_the_page_has_the_range_of_what_was_recommended_together(tiny: Model, measured: Store) -> None:
    rows = measured.rows(named_query("vectors_of_model"), [tiny.identity.model_id])
    found = [(row["safe_together"], row["n_together"], row["safe_to"]) for row in rows if row["safe_together"]]
    assert found == [(0.5, 2, None)] * len(LAYERS)
    by_id = {row["vector_id"]: row["safe_together"] for row in rows}
    cautioned = vectors_by_id(measured, list(by_id))
    assert {v.vector_id: v.safe.dose if v.safe else None for v in cautioned} == by_id  # what the command line says


def test_a_caution_names_the_vector_that_was_measured_and_what_it_proposes_is_safe(
    tiny: Model, shelf: Store, sailors: list[steer.Vector]
) -> None:
    mine = saved_at(tiny, shelf, "mine", 3)
    recommend(shelf, sailors[1], [mine.vector_id], f"30%*{mine.vector_id} @generation", safe_dose=0.4)
    saved_at(tiny, shelf, "mine", 0)  # the name alone means two layers from now on
    for name in ("sailor", "mine/3"):
        with pytest.warns(SteeringWarning, match=r"a dose of 0.8 of mine/3 is beyond 0.4,.* stay within 40%\*mine/3$"):
            intervention(tiny, f"80%*{name}", store=shelf.root)
    assert doses(intervention(tiny, "40%*mine/3", store=shelf.root), [mine] * 4) == {3: 0.4}


def test_a_dose_of_a_name_is_told_how_to_be_written(tiny: Model, shelf: Store) -> None:
    with pytest.raises(
        InterventionError, match=r"dose = -0.3 is for a vector alone: .* in the expression, -30%\*sailor"
    ):
        steer.generate(tiny, "Hello", "sailor", dose=-0.3, store=shelf.root)


def test_a_dose_that_nobody_measured_and_no_text_bears_warns(tiny: Model, tmp_path: Path) -> None:
    joy = steer.contrast(tiny, "I love it", "I hate it", layer=2)
    with pytest.warns(
        SteeringWarning,
        match=r"a dose of 3 of \w+ was never measured, and beyond 2 hardly a text survives: begin at 30%,",
    ):
        steer.generate(tiny, "Hello", joy, dose=3, max_tokens=1)
    assert joy.intervention(joy.alpha(1.9), "all").cautions == ()
    assert dataclasses.replace(joy, residual_norm=math.nan).intervention(1e6, "all").cautions == ()


def test_the_warning_is_at_the_caller_s_line(tiny: Model, measured: Store) -> None:
    found = steer.find_vectors(tiny, "sailor", measured.root)
    with pytest.warns(SteeringWarning, match="a dose of 1 of sailor is beyond 0.5") as seen:
        steer.generate(tiny, "Hello", found, dose=0.5, max_tokens=1)  # 0.5 in each of two layers
    assert seen[0].filename == __file__


def test_the_command_line_chat_and_the_api_warn_alike(tiny_folder: Path, measured: Store) -> None:
    at, model = ("--store", str(measured.root), "--max-tokens", "4"), str(tiny_folder)
    done = subprocess.run(
        [STEER, "generate", model, "Hello", "-s", "80%*sailor", *at], capture_output=True, text=True, check=True
    )
    assert done.stderr.count(CAUTION) == 1, done.stderr
    assert "beyond" not in done.stdout
    lines = "/steer 80%*sailor\nHello\nHello\n"
    chatted = subprocess.run([STEER, "chat", model, *at], input=lines, capture_output=True, text=True, check=True)
    assert chatted.stderr.count(CAUTION) == 1, chatted.stderr  # once, and not with each answer
    steering = {"expression": "80%*sailor"}
    with serving(measured, models=[model]) as client:
        asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
        answer = client.post("/v1/chat/completions", json={**asked, "steering": steering})
        assert answer.headers[WARNED].startswith(CAUTION)
        assert answer.json()["steering_warnings"][0].startswith(CAUTION)
        assert WARNED not in client.post("/v1/chat/completions", json=asked).headers
        streamed = client.post("/v1/chat/completions", json={**asked, "steering": steering, "stream": True}).text
        assert streamed.count(CAUTION) == streamed.count('"choices"')
        shown = client.post("/api/steer", json={"model": model, "prompt": "Hello", "steering": steering}).text
        assert shown.count(CAUTION) == 1
