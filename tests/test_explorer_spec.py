"""The spec that the page copies steers as the page does, or says what it leaves out."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fastapi.testclient import TestClient

from steering_core.explorer.drafts import DraftContrast, contrast_vectors
from steering_core.interventions.change import Intervention
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.spec_files import load_spec
from steering_core.store import Store
from steering_core.vectors import library
from steering_core.vectors.resolve import resolved
from tests import quick
from tests.explorer import AGREE

CONTRAST = {"positive": ["I love it!", "Great.", "It's: 'fine'"], "negative": ["I hate it.", "Awful.", "- no #"]}

OWN = ("agree", "response")


@pytest.fixture
def wanted(tiny_folder: Path) -> dict[str, Any]:
    return {"model": str(tiny_folder), "prompt": "Hello", "max_tokens": 4, "seed": 3, "temperature": 0.7}


def made(client: TestClient, wanted: dict[str, Any]) -> dict[str, Any]:
    answer = client.post("/api/spec", json=wanted)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def keys(client: TestClient, wanted: dict[str, Any]) -> dict[int, str]:
    """The vectors of `agree`'s own run by layer; runs of copied specs, in the same store, read at other positions."""
    listed = client.get("/api/vectors", params={"model": wanted["model"]}).json()
    return {row["layer"]: row["vector_id"] for row in listed if (row["concept"], row["position"]) == OWN}


def measured(store: Store, text: str, folder: Path, concepts: dict[str, str]) -> Intervention:
    """Run the spec in `text`, quickly, beside files of those concepts; the intervention that its expression was."""
    for name, content in concepts.items():
        (folder / name).write_text(content)
    (folder / "spec.yaml").write_text(re.sub(r"\bagree\]", "agree.yaml]", text))
    spec = load_spec(folder / "spec.yaml")
    sections = {"scores": spec.scores.model_copy(update=quick.SCORES)}
    sections |= {"vectors": spec.vectors.model_copy(update=quick.VECTORS)}
    sections |= {"generations": spec.generations.model_copy(update={"prompts": 1, "shortlist": "all"})}
    before = {row["intervention_id"] for row in store.rows("SELECT intervention_id FROM raw.scores")}
    run(spec.model_copy(update=sections), store)
    (expression,) = spec.generations.expressions
    own = re.sub(r"typed-1/mean_difference/(\d+)", lambda m: str(typed_key(store, int(m[1]))), expression)
    rows = store.rows("SELECT intervention_id, intervention FROM raw.scores WHERE control IS NULL")
    assert own in {row["intervention"] for row in rows if row["intervention_id"] not in before}
    return resolved(own, lambda name: library.find(store, name))


def typed_key(store: Store, layer: int) -> str:
    return library.find(store, f"typed-1/mean_difference/{layer}").vector_id


AGREED = json.dumps(AGREE.model_dump(mode="json", exclude_none=True))


@pytest.mark.parametrize(
    ("uses", "phase"),
    [
        ([(1, {"dose": 0.7}), (2, {"alpha": 0.5, "operation": "ablate"})], "all"),
        ([(2, {"dose": 0.3, "operation": "clamp"})], "generation"),
        ([(1, {"alpha": 20, "operation": "rotate"}), (2, {"dose": -0.4})], "prompt"),
        ([(2, {"dose": 0.9, "operation": "replace"})], "generation"),
    ],
)
def test_a_run_of_the_copied_spec_measures_the_very_intervention(
    client: TestClient, ran: Store, tmp_path: Path, wanted: dict[str, Any], uses: list[tuple[int, Any]], phase: str
) -> None:
    key = keys(client, wanted)
    wanted["steering"] = {"vectors": [{"vector": key[layer], **use} for layer, use in uses], "phase": phase}
    asked = client.post("/api/command", json=wanted).json()["expression"]
    spec = yaml.safe_load(made(client, wanted)["text"])
    assert spec["generations"]["expressions"] == [asked]
    assert (spec["generations"]["phase"], spec["generations"]["seed"]) == (phase, 3)
    changes = measured(ran, made(client, wanted)["text"], tmp_path, {"agree.yaml": AGREED}).changes
    assert [(c.layer, c.operation) for c in changes] == [(layer, use.get("operation", "add")) for layer, use in uses]
    assert {c.where.phase for c in changes} == {phase}


@pytest.mark.parametrize("position", ["last", "mean"])
def test_a_typed_contrast_is_derived_by_the_copied_spec_at_its_position(
    client: TestClient, ran: Store, tiny: Model, tmp_path: Path, wanted: dict[str, Any], position: str
) -> None:
    contrast = {**CONTRAST, "position": position}
    use = {"contrast": contrast, "layers": [2], "dose": 0.8, "operation": "clamp"}
    wanted["steering"] = {"vectors": [{"vector": keys(client, wanted)[1], "dose": 0.4}, use]}
    text = made(client, wanted)["text"]
    assert yaml.safe_load(text)["activations"] == {"position": position}
    assert yaml.safe_load(text)["concepts"] == ["typed-1.yaml", "agree"]
    below = text[text.index("# typed-1.yaml:") :].splitlines()[1:]
    files = {"typed-1.yaml": "\n".join(line.removeprefix("# ") for line in below), "agree.yaml": AGREED}
    _, clamped = measured(ran, text, tmp_path, files).changes
    typed = contrast_vectors(tiny, DraftContrast.model_validate(contrast))[2]
    assert (clamped.layer, clamped.operation) == (2, "clamp")
    np.testing.assert_allclose(clamped.direction, typed.direction, rtol=1e-3, atol=1e-5)
    assert clamped.amount == pytest.approx(0.8 * typed.residual_norm, rel=1e-3)


def test_what_a_spec_cannot_say_is_said(client: TestClient, wanted: dict[str, Any]) -> None:
    use = {"vector": keys(client, wanted)[1], "dose": 0.4}
    plain = made(client, {**wanted, "steering": {"vectors": [use]}})
    assert plain["left_out"] == ["the file of agree: write its path under concepts"]
    turn = {"prompt": "Hi", "base": "Hi", "steered": "Ho"}
    more = {"system": "Be brief.", "history": [turn], "probes": [use["vector"]]}
    said = made(client, {**wanted, **more, "steering": {"vectors": [use]}})
    assert said["left_out"][1:] == ["the system prompt", "the conversation so far", "the vectors that read along"]
    for one in said["left_out"]:
        assert f"# Not in here: {one}.\n" in said["text"]
    raw = made(client, {**wanted, "chat": False, "steering": {"vectors": [use]}})
    assert raw["left_out"][1].startswith("raw text")
    contrast = {"contrast": {**CONTRAST, "position": "last"}, "layers": [1], "dose": 0.4}
    mixed = made(client, {**wanted, "steering": {"vectors": [use, contrast]}})["left_out"]
    assert any(re.fullmatch("the position (response|mean): the grid's .* are read at last, all .*", s) for s in mixed)


def test_vectors_of_no_concept_leave_a_place_for_one(client: TestClient, wanted: dict[str, Any]) -> None:
    drafts = client.post("/api/contrasts", json={"model": wanted["model"], "contrast": CONTRAST}).json()
    (key,) = [draft["vector_id"] for draft in drafts if draft["layer"] == 1]
    assert client.post("/api/vectors", json={"model": wanted["model"], "vector_ids": [key], "name": "mine"}).is_success
    wanted["steering"] = {"vectors": [{"vector": key, "alpha": 1, "operation": "ablate"}]}
    found = made(client, wanted)
    spec = yaml.safe_load(found["text"])
    assert spec["concepts"] == ["CONCEPT.yaml"]
    assert "write one in the place of CONCEPT.yaml" in found["left_out"][0]
    assert "doses" not in spec["generations"]  # the grid's own


def test_two_typed_contrasts_and_pairs_that_repeat_are_told(client: TestClient, wanted: dict[str, Any]) -> None:
    two = [{"contrast": {"positive": [f"yes {i}"], "negative": ["no"]}, "layers": [1], "dose": 1} for i in range(2)]
    refused = client.post("/api/spec", json={**wanted, "steering": {"vectors": two}})
    assert refused.status_code == 400
    assert "save the others first" in refused.json()["error"]["message"]
    twice = [{"contrast": {"positive": ["yes"] * 2, "negative": ["no"] * 2}, "layers": [1], "dose": 1}]
    refused = client.post("/api/spec", json={**wanted, "steering": {"vectors": twice}})
    assert "pair 2 repeats pair 1" in refused.json()["error"]["message"]
