"""What is declared once is what every reader knows: operations and metrics, with new ones as the recipes say."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from steering_core.backend.mlx import mx
from steering_core.engine.steering import Steering
from steering_core.explorer.openai import names
from steering_core.foundation.errors import InterventionError
from steering_core.foundation.words import meaning
from steering_core.interventions import operations
from steering_core.interventions.change import Change
from steering_core.interventions.declarations import (
    ADD,
    CLAMP,
    OPERATIONS,
    USUAL_DOSE,
    Operation,
    called_by_name,
    declare,
)
from steering_core.interventions.expression import Amount
from steering_core.interventions.operations import FUNCTIONS
from steering_core.interventions.parsing import parse
from steering_core.interventions.safe_range import unsaid_strength
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.scores.metrics import (
    ANSWER_METRICS,
    ITEM_METRICS,
    NEUTRAL_METRICS,
    TEXT_METRICS,
    Setup,
    text_metric,
)
from steering_core.scores.scorers import ScoredText
from steering_core.spec import Spec
from steering_core.statistics.metric_names import DEFAULT_METRICS, JUDGED, METRICS, Metric, changes, logarithmic, scores
from steering_core.statistics.metric_names import declare as declare_metric
from steering_core.store import Store
from steering_core.vectors import saving
from steering_core.vectors.methods import known_methods, method_meanings
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector
from tests import quick
from tests.explorer import AGREE, events, serving

WIDTH = 32

# -- operations ---------------------------------------------------------------------------------------------------


def test_each_declared_operation_has_its_function_and_no_other_has_one() -> None:
    assert list(FUNCTIONS) == list(OPERATIONS)
    assert all(name == operation.name for name, operation in OPERATIONS.items())


def test_a_function_without_a_declaration_is_refused() -> None:
    def rotates(h: mx.array, direction: mx.array, amount: mx.array, gate: mx.array) -> mx.array:
        return h

    with pytest.raises(InterventionError, match="'rotates' is not known: did you mean 'rotate'"):
        operations.operation(rotates)
    assert "rotates" not in FUNCTIONS


def test_declarations_and_expressions_load_no_mlx() -> None:
    code = (
        "import steering_core.interventions.parsing as p, sys\np.parse('rotate(a, 3)')\nassert 'mlx' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", called_by_name())
def test_the_parser_holds_to_each_declaration(name: str) -> None:
    declared = OPERATIONS[name]
    assert parse(f"{name}(a, 2)").clauses[0].operation == name
    for text, allowed in ((f"{name}(a)", declared.optional), (f"{name}(a, 2%)", declared.percent is not None)):
        if allowed:
            assert parse(text).clauses[0].operation == name
        else:
            with pytest.raises(InterventionError, match=declared.amount):
                parse(text)


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_zero_vector_is_refused_where_a_direction_is_needed(name: str) -> None:
    change = Change(0, np.zeros(WIDTH, np.float32), 1.0, name)
    if OPERATIONS[name].needs_direction:
        with pytest.raises(InterventionError, match="needs a direction"):
            change.check(1, WIDTH)
    else:
        change.check(1, WIDTH)


@pytest.mark.parametrize("name", called_by_name())
def test_a_percentage_is_of_what_is_declared(name: str) -> None:
    """On a stream of norm 10, whose norm at that layer is 10 too."""
    percent = OPERATIONS[name].percent
    if percent is None:
        return
    vector = Vector("v", "m", None, "made", 0, 10.0, direction=np.array([0, 4, 0, 0], np.float32))
    (change,) = resolved(parse(f"{name}(v, 50%)"), lambda _: vector, 1).changes
    assert change.amount == {"length": 1.25, "component": 5.0, "share": 0.5}[percent]


def save_mine(store: Store, model: Model) -> None:
    """Put a vector of the model into the store's library, as `mine`."""
    direction = np.random.default_rng(1).standard_normal(WIDTH).astype(np.float32)
    store.append("models", [asdict(model.identity)])
    saving.save(store, [Vector("a" * 20, model.identity.model_id, None, "made", 1, 3.0, direction=direction)], "mine")


def tokens(found: list[dict[str, Any]]) -> dict[int, list[str]]:
    """The tokens of the untouched row, 0, and of the steered one, 1, as they were streamed."""
    return {row: [e["text"] for e in found if e["event"] == "token" and e["row"] == row] for row in (0, 1)}


@pytest.fixture
def mirrored() -> Iterator[Operation]:
    """A new operation, registered as the recipe says: a declaration and a function of its name."""
    declared = declare(
        Operation(
            "mirror", "times the component is turned over", "share to mirror",
            percent="share", optional=True, needs_direction=True, least=0, most=2, start=1,
        )
    )  # fmt: skip

    @operations.operation
    def mirror(h: mx.array, direction: mx.array, amount: mx.array, gate: mx.array) -> mx.array:
        unit = direction / mx.linalg.norm(direction, axis=-1, keepdims=True)
        return h - (2 * gate * amount * operations.component(h, unit) * unit).astype(h.dtype)

    yield declared
    del OPERATIONS["mirror"], FUNCTIONS["mirror"]


def test_a_new_operation_is_known_to_the_language_and_the_engine(mirrored: Operation, tiny: Model) -> None:
    vector = Vector("v", "m", None, "made", 1, 3.0, direction=np.eye(WIDTH, dtype=np.float32)[4] * 2)
    expression = parse("mirror(v, 100%) @all")
    assert str(parse("mirror(v)")) == "mirror(v)"
    assert parse(str(expression)) == expression
    with pytest.raises(InterventionError, match=r"rotate, replace.*, mirror"):
        parse("v; ")
    intervention = resolved(expression, lambda _: vector, 4)
    intervention.check(4, WIDTH)
    edits = Steering([intervention], [3]).edits(0, 3)
    seen: dict[str, np.ndarray] = {}

    def look(h: mx.array) -> mx.array:
        changed = edits[1](h)
        seen["before"], seen["after"] = np.array(h), np.array(changed)
        return changed

    with tiny.taps.applied({1: look}):
        mx.eval(tiny.network(mx.array([[5, 17, 40]]), cache=tiny.new_cache()))
    signs = np.ones(WIDTH)
    signs[4] = -1
    np.testing.assert_allclose(seen["after"], seen["before"] * signs, atol=1e-6)
    assert np.abs(seen["before"][..., 4]).min() > 0


def test_a_new_operation_is_known_to_the_explorer(
    mirrored: Operation, store: Store, tiny: Model, tiny_folder: Path
) -> None:
    save_mine(store, tiny)
    with serving(store, models=[str(tiny_folder)]) as client:
        listed = {row["name"]: row for row in client.get("/api/operations").json()}
        assert list(listed) == list(OPERATIONS)
        assert listed["mirror"]["unit"] == "alpha"
        use = {"vector": "mine", "alpha": 1.5, "operation": "mirror"}
        body = {"model": str(tiny_folder), "prompt": "Hello", "max_tokens": 8, "temperature": 0}
        steered = {**body, "steering": {"vectors": [use], "phase": "all"}}
        words = {**body, "steering": {"expression": "mirror(mine, 1.5) @all"}}
        by_list, by_words = (tokens(events(client, "/api/steer", asked)) for asked in (steered, words))
        assert by_list[1] == by_words[1]  # the untouched row may share a batch with an operation that has no gate
        assert by_list[1] != by_list[0]
        refused = client.post("/api/steer", json={**body, "steering": {"vectors": [{**use, "operation": "miror"}]}})
        assert "did you mean 'mirror'" in refused.json()["error"]["message"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_explorer_takes_every_operation_in_its_own_unit(
    name: str, store: Store, tiny: Model, tiny_folder: Path
) -> None:
    save_mine(store, tiny)
    with serving(store, models=[str(tiny_folder)]) as client:
        row = next(row for row in client.get("/api/operations").json() if row["name"] == name)
        use = {"vector": "mine", row["unit"]: row["start"], "operation": name}
        body = {"model": str(tiny_folder), "prompt": "Hello", "max_tokens": 2, "steering": {"vectors": [use]}}
        *_, last = events(client, "/api/steer", body)
        assert last["event"] == "done", last
        made = parse(client.post("/api/command", json=body).json()["expression"])
        assert made.clauses[0].operation == name


# -- metrics ------------------------------------------------------------------------------------------------------


def test_each_declared_metric_has_its_function_or_is_a_scorer() -> None:
    for subjects, functions in (
        ("items", ITEM_METRICS),
        ("neutral prompts", NEUTRAL_METRICS),
        ("neutral answers", ANSWER_METRICS),
        ("texts", {**TEXT_METRICS, **dict.fromkeys(("probe", "generated_kl", "generated_kl_p95", *JUDGED))}),
    ):
        assert set(functions) == {name for name, metric in METRICS.items() if metric.subjects == subjects}


def test_what_a_metric_means_stands_in_the_words() -> None:
    assert [name for name in (*METRICS, *changes().values()) if not meaning(name)] == []


def test_each_method_says_what_it_finds() -> None:
    assert set(method_meanings()) == set(known_methods())


def test_a_metric_that_is_declared_otherwise_or_not_at_all_is_refused() -> None:
    def kl(setup: Setup, texts: Sequence[ScoredText]) -> list[float]:
        return []

    with pytest.raises(ValueError, match="kl is not declared as a metric of texts"):
        text_metric(kl)
    assert "kl" not in TEXT_METRICS


def test_changes_and_scales_are_as_declared() -> None:
    assert changes() == {"propensity": "effect", "perplexity": "perplexity_ratio"}
    assert [n for n in (*METRICS, *changes().values()) if logarithmic(n)] == ["perplexity", "perplexity_ratio"]


def test_a_new_metric_is_measured_summed_up_and_in_the_leaderboard(tmp_path: Path, tiny_folder: Path) -> None:
    declare_metric(Metric("length", "texts", "tokens", change="longer"))

    @text_metric
    def length(setup: Setup, texts: Sequence[ScoredText]) -> list[float]:
        return [float(len(text.tokens)) for text in texts]

    try:
        path = tmp_path / "agree.yaml"
        path.write_text(json.dumps(AGREE.model_dump(mode="json", exclude_none=True)))
        grid = {"layers": (1,), "doses": (0.5,), "prompts": 2, "max_tokens": 4}
        spec = Spec(
            models=(str(tiny_folder),), concepts=(str(path),), generations=grid,
            scores={**quick.SCORES, "metrics": (*DEFAULT_METRICS, "length")},
        )  # fmt: skip
        store = Store(tmp_path / "store")
        run(spec, store)
        means = store.rows("SELECT DISTINCT metric FROM raw.scores WHERE metric IN ('length', 'longer') ORDER BY ALL")
        assert [row["metric"] for row in means] == ["length", "longer"]
        measured = store.rows(
            "SELECT intervention_id, control, split, avg(value) AS mean FROM raw.measurements "
            "WHERE metric = 'length' GROUP BY ALL"
        )
        base = {row["split"]: row["mean"] for row in measured if row["control"] == "none"}
        board = store.rows("SELECT * FROM leaderboard WHERE longer IS NOT NULL")
        shown = {(row["intervention_id"], row["split"]): row["longer"] for row in board}
        expected = {(r["intervention_id"], r["split"]): r["mean"] - base[r["split"]] for r in measured}
        assert shown == pytest.approx(expected)
        assert any(row["control"] is None for row in board)
    finally:
        del METRICS["length"], TEXT_METRICS["length"]


def test_the_leaderboards_columns_are_the_declared_scores(store: Store) -> None:
    columns = store.query("SELECT * FROM leaderboard").column_names
    first = columns.index("p_value") + 1
    assert columns[first : columns.index("n")] == [score for score in scores() if score != "effect"]


def test_one_dose_is_begun_with_everywhere() -> None:
    usual = str(Amount.of_dose(USUAL_DOSE))
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    assert set(re.findall(r"(?<![\d.])(\d+%)\*", readme)) == {usual}
    assert {float(dose) for dose in re.findall(r"--dose (\S+)", readme)} == {USUAL_DOSE}
    assert {ADD.start, CLAMP.start} == {USUAL_DOSE}
    assert usual == names.USUAL
    assert f"begin at {usual}*faint" in unsaid_strength("faint", [0.01])
