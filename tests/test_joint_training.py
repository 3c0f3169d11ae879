"""Joint training: vectors of several layers trained, kept, searched and controlled as one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from steering_core.api.quick_vectors import derive_vector
from steering_core.candidates.grid import Strengths, candidates
from steering_core.concepts import SIDES
from steering_core.foundation.errors import VectorError
from steering_core.models import Model, open_model
from steering_core.pipeline.discover import run
from steering_core.pipeline.wanted import trained_layers, training_passes
from steering_core.prompts import pair_prompt
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.methods import TRAINED, method
from steering_core.vectors.training.at_layer import training_at
from steering_core.vectors.training.fits import trained_directions
from steering_core.vectors.training.joint import JointTraining
from steering_core.vectors.training.pair_passes import PairPasses
from steering_core.vectors.training.pairs import answer_pair
from tests import toy
from tests.tiny import save_tiny_model
from tests.trained import answered, vectors_of

NORMS = (1.0, 2.0, 4.0)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with open_model(str(save_tiny_model(tmp_path_factory.mktemp("models") / "tiny"))) as model:
        yield model


def joint(model: Model, n: int = 8, validation: int = 4) -> JointTraining:
    """Three layers of unlike norms, whose mean differences are noise."""
    concept = answered(n + validation)
    pairs = [answer_pair(*(pair_prompt(model, concept, pair, side) for side in SIDES)) for pair in concept.pairs]
    passes, drawn = PairPasses(model, pairs[:n], pairs[n:], [0, 1, 2]), np.random.default_rng(3)
    noise = drawn.standard_normal((3, n, model.identity.width)) + (
        toy.axes()[1] if model.identity.width == toy.WIDTH else 0
    )
    each = [training_at(passes, i, rows, np.zeros_like(rows), NORMS[i], 0) for i, rows in enumerate(noise)]
    return JointTraining(tuple(each))


def test_gradients_by_the_doses_agree_with_finite_differences(tiny_model: Model) -> None:
    given = joint(tiny_model)
    doses = 0.05 * np.random.default_rng(1).standard_normal((3, tiny_model.identity.width))
    found, step = given.preferences(doses, [2]), 1e-3
    for layer in range(3):
        turn = np.zeros_like(doses)
        turn[layer] = np.random.default_rng(layer).standard_normal(doses.shape[1])
        up, down = (given.preferences(doses + sign * step * turn, [2]).values[0] for sign in (1, -1))
        assert (found.gradients[0] * turn).sum() == pytest.approx((up - down) / (2 * step), rel=0.02, abs=1e-4)


def test_doses_at_several_layers_act_together(toy_model: Model) -> None:
    """The toy's blocks do nothing, so what is added at each layer adds up, and one layer alone can do the same."""
    given, v = joint(toy_model), toy.axes()[1]
    spread = np.stack([0.5 / norm * v for norm in NORMS])
    alone = given.at[0].preferences(1.5 * v)
    np.testing.assert_allclose(given.preferences(spread).values, alone.values, atol=1e-5)
    np.testing.assert_allclose(given.preferences(spread).gradients[:, 2], 4.0 * alone.gradients, atol=1e-4)
    mirrored = given.preferences(spread, [1, 1], np.array([1.0, -1.0])).values
    np.testing.assert_allclose(mirrored, [alone.values[1], given.at[0].preferences(-1.5 * v, [1]).values[0]], atol=1e-5)


def test_the_planted_direction_is_found_and_the_louder_layer_gets_the_larger_share(toy_model: Model) -> None:
    """Of one dose the same share does four times as much at a layer whose stream is four times as long."""
    given = joint(toy_model)
    found, notes = trained_directions("joint_preference", given.at)
    doses = [np.linalg.norm(one) / norm for one, norm in zip(found, NORMS, strict=True)]
    assert np.sqrt(np.square(doses).sum()) == pytest.approx(0.2)
    assert doses[0] < doses[1] < doses[2]
    assert found[2] @ toy.axes()[1] / np.linalg.norm(found[2]) > 0.9
    assert notes["layers"] == [0, 1, 2]
    assert notes["validation"][-1] > notes["validation"][0]
    again, _ = trained_directions("joint_preference", joint(toy_model).at)
    np.testing.assert_array_equal(found, again)


def spec_of(model: Path, folder: Path, controls: int = 1, layers: list[int] | None = None) -> Spec:
    path = folder / "answers.yaml"
    path.write_text(yaml.safe_dump(answered(20).model_dump(mode="json", exclude_none=True)))
    vectors = {"methods": ("joint_preference",), "controls": controls, "quality_draws": 0}
    if layers:
        vectors |= {"train_layers": layers}
    return Spec(models=(str(model),), concepts=(str(path),), vectors=vectors, generations={"layers": "all"})


def test_one_fit_gives_every_layer_its_vector_and_another_its_control(
    tiny_model: Model, tmp_path: Path, store: Store
) -> None:
    vectors, _ = vectors_of(spec_of(tiny_model.folder, tmp_path, layers=[0, 1, 3]), store)
    own, random, shuffled = ([v for v in vectors if v.control == c] for c in (None, "random", "shuffled"))
    assert [v.layer for v in own] == [v.layer for v in random] == [v.layer for v in shuffled] == [0, 1, 3]
    for fit in (own, shuffled):
        (told,) = {(v.lineage["trained"]["seed"], *v.lineage["trained"]["layers"]) for v in fit}
        assert told[1:] == (0, 1, 3)
        assert np.sqrt(sum((v.norm / v.residual_norm) ** 2 for v in fit)) == pytest.approx(0.2, rel=1e-5)
    assert [v.norm for v in random] == pytest.approx([v.norm for v in own])
    others, _ = vectors_of(spec_of(tiny_model.folder, tmp_path, layers=[0, 1]), store)
    assert not {v.vector_id for v in others} & {v.vector_id for v in vectors}  # trained together, they are others


def test_unchanged_nothing_is_trained_again_and_one_more_control_is_one_more_fit(
    tiny_model: Model, tmp_path: Path, store: Store
) -> None:
    first, _ = vectors_of(spec_of(tiny_model.folder, tmp_path, layers=[1, 2]), store)
    again, did = vectors_of(spec_of(tiny_model.folder, tmp_path, layers=[1, 2]), store)
    assert did.counts["vectors"].computed == did.counts["vectors"].forward_passes == 0
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.direction, other.direction)
    _, did = vectors_of(spec_of(tiny_model.folder, tmp_path, controls=2, layers=[1, 2]), store)
    assert did.counts["vectors"].computed == 2 * 2  # a random and a shuffled one at either layer


def test_killed_within_a_fit_none_of_its_vectors_is_kept(
    tiny_model: Model, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, run_pass = 0, PairPasses.preferences

    def dies(self: PairPasses, *given: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return run_pass(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(PairPasses, "preferences", dies)
    spec = spec_of(tiny_model.folder, tmp_path, layers=[1, 2])
    with pytest.raises(KeyboardInterrupt):
        vectors_of(spec, store)
    assert store.rows("SELECT 1 FROM raw.vectors") == []
    vectors, _ = vectors_of(spec, store)
    assert len(vectors) == 2 * 3


def test_the_layers_are_those_asked_for_or_five_of_the_grids(toy_model: Model, tmp_path: Path, store: Store) -> None:
    asked = spec_of(toy_model.folder, tmp_path, layers=[2, 0])
    assert trained_layers(asked, store, toy_model, answered(20), ["joint_preference"]) == {"joint_preference": [0, 2]}
    auto = spec_of(toy_model.folder, tmp_path)
    assert trained_layers(auto, store, toy_model, answered(20), ["joint_preference"]) == {"joint_preference": [0, 1, 2]}
    passes = TRAINED["joint_preference"]
    assert training_passes(asked) == passes.shared + 2 * passes.passes  # the vectors and one control, at any layers


def test_they_are_one_candidate_in_the_shares_that_were_learned(
    tiny_model: Model, tmp_path: Path, store: Store
) -> None:
    vectors, _ = vectors_of(spec_of(tiny_model.folder, tmp_path, layers=[0, 1, 3]), store)
    own = [v for v in vectors if v.control is None]
    (cell,) = candidates(tiny_model.identity, answered(20), vectors, Strengths(doses=(0.3,)), "generation")
    assert cell.layers == [0, 1, 3]
    assert cell.dose == pytest.approx(0.3, rel=1e-5)
    doses = [change.amount * v.norm / v.residual_norm for change, v in zip(cell.intervention.changes, own, strict=True)]
    learned = [v.norm / v.residual_norm for v in own]
    np.testing.assert_allclose(np.array(doses) / sum(doses), np.array(learned) / sum(learned), rtol=1e-4)
    (doubled,) = candidates(tiny_model.identity, answered(20), vectors, Strengths(absolute=(2.0,)), "generation")
    assert [change.amount for change in doubled.intervention.changes] == [2.0, 2.0, 2.0]


def test_a_whole_run_recommends_them_together_beside_controls_of_either_kind(
    toy_model: Model, tmp_path: Path, store: Store
) -> None:
    path = tmp_path / "capitals.yaml"
    path.write_text(yaml.safe_dump(toy.CONCEPT.model_dump(mode="json", exclude_none=True)))
    spec = Spec(
        models=(str(toy_model.folder),),
        concepts=(str(path),),
        vectors={"methods": ("joint_preference",), "train_layers": [0, 2], "controls": 2, "quality_draws": 0},
        generations={"layers": "all", "doses": (0.02,), "prompts": 1, "samples": 1, "max_tokens": 2},
        scores={"bootstrap": 200, "max_perplexity_ratio": 5.0},
    )
    (row,) = run(spec, store)["recommendations"]
    assert (row["method"], row["layers"]) == ("joint_preference", [0, 2])
    assert row["p_value"] is not None
    trial = store.rows("SELECT DISTINCT control, layers FROM measurements WHERE split = 'test' AND layers IS NOT NULL")
    assert {r["control"] for r in trial if list(r["layers"]) == [0, 2]} >= {None, "random", "shuffled", "mirrored"}


def test_at_one_layer_it_is_a_vector_like_any_other(toy_model: Model) -> None:
    pairs = [("x AB", "x ab"), ("y CD", "y cd"), ("z EF", "z ef")]
    vector = derive_vector(toy_model, pairs, 1, method="joint_preference")
    assert vector.direction @ toy.axes()[1] / vector.norm > 0.95
    assert vector.lineage["trained"]["layers"] == [1]


def test_a_users_joint_method_gives_a_direction_for_each_layer(toy_model: Model) -> None:
    @method(passes=0, joint=True)
    def starts(training: JointTraining) -> np.ndarray:
        return training.vectors(training.start)

    @method(passes=0, joint=True)
    def short(training: JointTraining) -> np.ndarray:
        return training.start[:1]

    found, _ = trained_directions("starts", joint(toy_model).at)
    assert [np.linalg.norm(one) for one in found] == pytest.approx(NORMS)
    with pytest.raises(VectorError, match=r"short returned shape \(1, \d+\) for 3 layers"):
        trained_directions("short", joint(toy_model).at)
