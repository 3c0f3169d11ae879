"""Side effects: closed forms on a model with two entangled directions, and what chance shows on a tiny one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from steering_core.backend.mlx import mx
from steering_core.candidates.cell import RANDOM, Cell, Trial, unsteered
from steering_core.concepts import Concept, Item, Pair, load_concept
from steering_core.evaluation.side_effects import Matrix, SideEffect, side_effects
from steering_core.foundation.errors import ConceptError, SpecError
from steering_core.models import Model, open_model
from steering_core.pipeline.discover import run
from steering_core.pipeline.wanted import side_effect_tokens
from steering_core.reports.charts.listed import CHARTS
from steering_core.reports.charts.render import svg
from steering_core.spec import Spec
from steering_core.statistics.intervals import not_zero_p, unlike_p
from steering_core.store import Store
from steering_core.store.queries import named_query
from steering_core.vectors.vector import Vector
from tests import quick, toy

PAIRS = tuple(Pair(positive=a, negative=a.lower()) for a in "ABCDEF")
LETTERS = Concept(
    name="letters",
    pairs=PAIRS,
    items=tuple(Item(prompt=f"{i}? ", matching="A", not_matching="b") for i in range(16)),
)
DIGITS = Concept(
    name="digits",
    pairs=PAIRS,
    items=tuple(Item(prompt=f"{'#' * i}? ", matching="2", not_matching="1") for i in range(1, 17)),
)
ALPHA = 3.0


def third_axis() -> np.ndarray:
    """A unit vector (D,) that is orthogonal to both axes of the toy; even digits read +b along it, odd ones -b."""
    u, v = toy.axes()
    w = np.random.default_rng(11).standard_normal(toy.WIDTH)
    w -= (w @ u) * u + (w @ v) * v
    return w / np.linalg.norm(w)


def parity() -> np.ndarray:
    found = np.zeros(toy.VOCABULARY)
    for token, i in toy.byte_tokenizer().get_vocab().items():
        if len(token) == 1 and token in "0123456789":
            found[i] = 1.0 if int(token) % 2 == 0 else -1.0
    return found


@pytest.fixture(scope="module")
def entangled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """The toy with a second direction that digits read."""
    folder = toy.save_toy_model(tmp_path_factory.mktemp("models") / "toy")
    weights = mx.load(str(folder / "model.safetensors"))
    read = toy.READ * (toy.signs()[:, None] * toy.axes()[1] + parity()[:, None] * third_axis())
    weights["lm_head.weight"] = mx.array(read.astype(np.float32))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)
    with open_model(str(folder)) as model:
        yield model


def steering(model: Model, direction: np.ndarray, name: str, control: str | None = None) -> Cell:
    """ALPHA times a direction at layer 1, in every generated token."""
    mine = model.identity.model_id
    vector = Vector(name, mine, LETTERS.concept_id, "planted", 1, 10.0, direction=direction.astype(np.float32))
    return replace(Cell.adding(mine, LETTERS.concept_id, "generation", [vector], [ALPHA]), control=control)


def randoms(model: Model, n: int, width: int, seed: int = 0) -> list[Cell]:
    drawn = np.random.default_rng(seed).standard_normal((n, width))
    units = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return [steering(model, unit, f"{seed}random{i}", RANDOM) for i, unit in enumerate(units)]


def asked(*concepts: Concept) -> dict[str, tuple[Concept, list[Item]]]:
    return {concept.concept_id: (concept, list(concept.items_in("test"))) for concept in concepts}


def test_entangled_directions_give_the_analytic_matrix(entangled: Model, store: Store) -> None:
    """A token's logit is b times what is added along its axis over the rms; before it nothing is read, so 0."""
    v, w = toy.axes()[1], third_axis()
    both = (2 * v + w) / np.sqrt(5)
    chosen = steering(entangled, both, "both")
    trial = Trial(chosen, [unsteered(entangled.identity, LETTERS), chosen, *randoms(entangled, 6, toy.WIDTH)])
    matrix, done = side_effects(entangled, store, trial, asked(LETTERS, DIGITS))
    assert done.work.computed == 8 * sum(len(items) for _, items in asked(LETTERS, DIGITS).values())
    u = toy.axes()[0]
    for cell in (trial.chosen, *trial.cells[2:]):
        added = ALPHA * cell.vectors[0].direction.astype(np.float64)
        rms = np.linalg.norm(toy.ALONG_U * u + added) / np.sqrt(toy.WIDTH)
        expected = {LETTERS.name: 2 * toy.READ * (added @ v) / rms, DIGITS.name: 2 * toy.READ * (added @ w) / rms}
        found = {row.measured.name: row.effect for row in matrix.of(cell)}
        assert found == pytest.approx(expected, abs=1e-4)
    assert matrix.selectivity(chosen) == pytest.approx(2.0, rel=1e-4)  # 2 v + w moves letters twice as far as digits


def test_what_moves_further_than_chance_is_said_and_what_does_not_is_not(entangled: Model, store: Store) -> None:
    u, v = toy.axes()
    unread = np.random.default_rng(5).standard_normal((9, toy.WIDTH))  # nothing reads along these
    for axis in (u, v, third_axis()):
        unread -= np.outer(unread @ axis, axis)
    unread += 0.02 * np.random.default_rng(6).standard_normal(unread.shape)
    units = unread / np.linalg.norm(unread, axis=1, keepdims=True)
    controls = [steering(entangled, unit, f"unread{i}", RANDOM) for i, unit in enumerate(units)]
    none = "; of 1 other concept it surely moves none (most of all digits by "
    for direction, expected in ((v + third_axis(), "; it also moves digits by +"), (v, none)):
        chosen = steering(entangled, direction / np.linalg.norm(direction), f"to {expected[:9]}")
        trial = Trial(chosen, [unsteered(entangled.identity, LETTERS), chosen, *controls])
        matrix, _ = side_effects(entangled, store, trial, asked(LETTERS, DIGITS))
        assert matrix.said(chosen).startswith(expected)
        assert sum(bool(matrix.sure(control)) for control in controls) <= 1
    assert Matrix().said(chosen) == ""


def test_only_the_largest_are_named() -> None:
    about = [Concept(name=name, pairs=(Pair(positive="a", negative="b"),)) for name in "abcde"]
    cell = Cell("m", about[0].concept_id)
    effects = (1.0, 0.2, -0.4, 0.3, 0.5)
    rows = [
        SideEffect(cell, one, (effect,), 0.001, None if one is about[0] else 0.004)
        for one, effect in zip(about, effects, strict=True)
    ]
    matrix = Matrix(rows)
    assert matrix.said(cell) == "; it also moves e by +0.50, c by -0.40, d by +0.30 nats, and 1 more concepts"
    assert matrix.selectivity(cell) == 2.0


def test_p_values_are_of_their_size() -> None:
    drawn = np.random.default_rng(0).normal(0.3, 2.0, (4000, 7))
    assert np.mean([unlike_p(row[0], row[1:]) <= 0.05 for row in drawn]) == pytest.approx(0.05, abs=0.012)
    assert np.mean([not_zero_p(row - 0.3) <= 0.05 for row in drawn]) == pytest.approx(0.05, abs=0.012)
    assert unlike_p(9.0, [0.0, 0.1]) == pytest.approx(2 * 0.0031 / 2, abs=0.004)
    assert (unlike_p(1.0, [0.0]), unlike_p(float("nan"), [0.0, 1.0]), not_zero_p([1.0])) == (1.0, 1.0, 1.0)


def test_random_directions_show_nothing(tiny: Model, store: Store) -> None:
    """Each of 25 random directions against the 24 others, on four shipped concepts: at most 5 in 100 show anything."""
    concepts = [load_concept(name) for name in ("sentiment", "formality", "refusal", "verbosity")]
    about = Cell(tiny.identity.model_id, concepts[0].concept_id)
    cells = [
        replace(cell, concept_id=about.concept_id, control=RANDOM if i else None)
        for i, cell in enumerate(randoms(tiny, 25, tiny.identity.width))
    ]
    base = Cell(about.model_id, about.concept_id, control="none")
    matrix, _ = side_effects(tiny, store, Trial(cells[0], [base, *cells]), asked(*concepts))
    assert len(matrix.rows) == 25 * 4
    showing = [cell for cell in cells if matrix.sure(cell)]
    assert len(showing) <= 2
    assert len({row.p_value for row in matrix.rows}) > 50  # they were told apart


def files(folder: Path) -> list[str]:
    """Two small concepts as files."""
    made = []
    for name, yes, no in (("agree", "yes", "no"), ("loud", "LOUD", "soft")):
        pairs = [{"positive": f"{i} {yes}", "negative": f"{i} {no}"} for i in range(8)]
        items = [{"prompt": f"Is it {i}?", "matching": yes, "not_matching": no} for i in range(8)]
        path = folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({"name": name, "pairs": pairs, "items": items, "prompts": ["Well,", "So,"]}))
        made.append(str(path))
    return made


def spec(model: Path, concepts: list[str], **scores: object) -> Spec:
    grid = {"layers": (1, 2), "doses": (0.5, 1.0), "prompts": 2, "max_tokens": 4}
    return Spec(
        models=(str(model),),
        concepts=concepts,
        generations=grid,
        scores={**quick.SCORES, "side_effects": "auto", **scores},
    )


def test_a_spec_of_two_concepts_measures_each_on_the_others_items(
    tmp_path: Path, tiny_folder: Path, store: Store
) -> None:
    wanted = spec(tiny_folder, files(tmp_path))
    with open_model(str(tiny_folder)) as model:
        forecast = side_effect_tokens(wanted, model, [load_concept(path) for path in wanted.concepts])
    report = run(wanted, store)
    assert report["stages"]["side_effects"]["tokens"] == pytest.approx(forecast, rel=0.3)
    rows = store.rows("SELECT * FROM side_effects WHERE control IS NULL")
    assert {(row["concept"], row["measured"]) for row in rows} == {
        (a, b) for a in ("agree", "loud") for b in ("agree", "loud")
    }
    for row in rows:
        assert (row["p_corrected"] is None) == (row["concept"] == row["measured"])
        own = store.rows(
            "SELECT effect FROM leaderboard WHERE intervention_id = ? AND concept = ? AND split = 'test'",
            [row["intervention_id"], row["measured"]],
        )
        if row["concept"] == row["measured"]:  # all of the test items: what the leaderboard says
            assert row["effect"] == pytest.approx(own[0]["effect"], abs=1e-6)
        else:  # no candidate of the other concept
            assert own == []
    said = {row["concept"]: row["selectivity"] for row in store.rows("FROM recommendations")}
    by = {(row["concept"], row["measured"]): row["effect"] for row in rows}
    assert said["agree"] == pytest.approx(abs(by["agree", "agree"]) / abs(by["agree", "loud"]))
    assert report["stages"]["side_effects"]["computed"] > 0
    assert {row["concept"] for row in store.rows("FROM steerability")} == {"agree", "loud"}
    strangers = store.rows("FROM steerability s JOIN vectors v USING (vector_id) WHERE s.concept_id <> v.concept_id")
    assert strangers == []

    drawn = store.rows(named_query("side_effects_of_model"), [rows[0]["model_id"]])
    assert {row["row"] for row in drawn} >= {"agree", "loud", "agree · random", "loud · shuffled"}
    assert "measured on the items of" in svg(CHARTS["side_effects"].drawn(drawn, {}))

    again = run(wanted, store)
    assert again["stages"]["side_effects"]["computed"] == 0
    assert len(store.rows("FROM side_effects")) == len(store.rows("SELECT DISTINCT side_effect_id FROM side_effects"))


def test_named_concepts_are_measured_besides_and_unknown_ones_told_first(
    tmp_path: Path, tiny_folder: Path, store: Store
) -> None:
    agree, loud = files(tmp_path)
    run(spec(tiny_folder, [agree], side_effects=[loud]), store)
    assert {row["measured"] for row in store.rows("FROM side_effects")} == {"agree", "loud"}
    with pytest.raises(ConceptError, match="lowd"):
        run(spec(tiny_folder, [agree], side_effects=["lowd"]), Store(tmp_path / "other"))
    assert Store(tmp_path / "other").rows("FROM activations") == []
    run(spec(tiny_folder, [loud], side_effects="none"), store)
    assert {row["concept"] for row in store.rows("FROM side_effects")} == {"agree"}


def test_one_concept_alone_is_measured_on_the_shipped_ones(
    tmp_path: Path, tiny_folder: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("steering_core.pipeline.wanted.ALONE", "shipped")
    run(spec(tiny_folder, files(tmp_path)[:1]), store)
    counts = store.rows("SELECT measured, n + n_missing AS n FROM side_effects WHERE control IS NULL")
    assert {"agree", "sentiment", "refusal", "nonsense"} < {row["measured"] for row in counts}
    assert len(counts) == 16
    assert {row["n"] for row in counts if row["measured"] != "agree"} == {6}


def test_what_is_measured_besides_is_part_of_a_specs_key_where_it_was_asked_for(tiny_folder: Path) -> None:
    plain, auto, none = (
        spec(tiny_folder, ["a"], **given) for given in ({}, {"side_effects": "auto"}, {"side_effects": "none"})
    )
    assert plain.key == auto.key != none.key
    with pytest.raises(SpecError, match="side_effects"):
        spec(tiny_folder, ["a"], side_effects="some")
