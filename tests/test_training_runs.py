"""Trained vectors in a store, a whole run, a plan and the command: with controls, kept through a kill, a user's own."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from steering_core.cli.main import app
from steering_core.foundation.errors import LayerNotFound, VectorError
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.pipeline.wanted import training_passes
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.controls import SAME
from steering_core.vectors.methods import METHODS, TRAINED, method, method_name
from steering_core.vectors.training.at_layer import Training
from steering_core.vectors.training.descent import Descent, trained
from tests import toy
from tests.trained import along, answered, spec_of, vectors_of


def test_trained_vectors_stand_beside_the_others_with_controls_trained_as_long(
    toy_model: Model, tmp_path: Path, store: Store
) -> None:
    spec = spec_of(toy_model.folder, answered(20), tmp_path, train_layers=[1])
    vectors, did = vectors_of(spec, store)
    assert [(v.method, v.layer) for v in vectors if v.control is None] == [
        *(("mean_difference", layer) for layer in range(3)),
        ("gradient", 1),
        ("preference", 1),
    ]
    own, *controls = [v for v in vectors if v.method == "preference"]
    assert [v.control for v in controls] == ["random", "random", "shuffled", "shuffled"]
    assert own.derived
    assert along(own.direction) > 0.95
    assert len(own.lineage["trained"]["losses"]) == len(own.lineage["trained"]["validation"]) - 1 >= 2
    assert all(control.norm == pytest.approx(own.norm, rel=1e-5) for control in controls)
    assert all(abs(along(control.direction)) < SAME for control in controls)  # the toy's streams have one axis alone
    assert did.counts["vectors"].tokens > 0
    assert store.rows("SELECT auc_test FROM vector_quality WHERE vector_id = ?", [own.vector_id])[0]["auc_test"] > 0.5


def test_a_control_is_trained_as_long_on_shuffled_labels(
    tmp_path: Path, toy_model: Model, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []

    @method(passes=1)
    def noted(training: Training) -> np.ndarray:
        seen.append((bool((training.pairs[:, 0] > training.pairs[:, 1]).any()), training.seed))
        training.notes["shuffled"] = seen[-1][0]
        return training.start + np.random.default_rng(training.seed).standard_normal(toy.WIDTH)

    spec = spec_of(toy_model.folder, answered(20), tmp_path, methods=("noted",), train_layers=[1])
    vectors, _ = vectors_of(spec, store)
    assert [shuffled for shuffled, _ in seen] == [False, True, True]
    assert len({seed for _, seed in seen}) == 3
    assert [v.lineage.get("trained", {}).get("shuffled") for v in vectors] == [False, None, None, True, True]


def test_unchanged_it_trains_nothing_again(toy_model: Model, tmp_path: Path, store: Store) -> None:
    spec = spec_of(toy_model.folder, answered(20), tmp_path)
    first, _ = vectors_of(spec, store)
    again, did = vectors_of(spec, store)
    assert did.counts["vectors"].computed == did.counts["vectors"].forward_passes == 0
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.direction, other.direction)
    more = spec.model_copy(update={"vectors": spec.vectors.model_copy(update={"controls": 3})})
    _, did = vectors_of(more, store)
    assert did.counts["vectors"].computed == 2 * (3 + 2 * 2)  # at three layers one, at the two best ones two


def test_killed_while_it_trains_it_keeps_what_was_finished_alone(
    toy_model: Model, tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = spec_of(toy_model.folder, answered(20), tmp_path, train_layers=[1], controls=1)
    calls = 0

    def dies(training: Training, how: Descent) -> np.ndarray:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return trained(training, how)

    monkeypatch.setattr("steering_core.vectors.methods.trained.trained", dies)
    with pytest.raises(KeyboardInterrupt):
        vectors_of(spec, store)
    methods = store.rows("SELECT control FROM raw.vectors WHERE method = 'preference' ORDER BY control")
    assert [row["control"] for row in methods] == ["random", None]
    vectors_of(spec, store)
    assert calls == 3  # the shuffled control alone


def test_auto_trains_where_the_pairs_are_told_apart_best(toy_model: Model, tmp_path: Path, store: Store) -> None:
    spec = spec_of(toy_model.folder, answered(20), tmp_path, methods=("gradient",), controls=0)
    vectors, _ = vectors_of(spec, store)
    assert len(vectors) == 2


def test_a_whole_run_recommends_a_trained_vector(toy_model: Model, tmp_path: Path, store: Store) -> None:
    path = tmp_path / "capitals.yaml"
    path.write_text(yaml.safe_dump(toy.CONCEPT.model_dump(mode="json", exclude_none=True)))
    spec = Spec(
        models=(str(toy_model.folder),),
        concepts=(str(path),),
        vectors={"methods": ("gradient", "preference"), "train_layers": [1], "controls": 1, "quality_draws": 0},
        generations={"layers": "all", "doses": (0.02,), "prompts": 1, "samples": 1, "max_tokens": 2},
        scores={"bootstrap": 200, "max_perplexity_ratio": 5.0},
    )
    (row,) = run(spec, store)["recommendations"]
    assert {*row["method"].split("+")} <= {"gradient", "preference"}
    assert row["layers"] == [1]
    controls = store.rows("SELECT DISTINCT method, control FROM measurements WHERE split = 'test' ORDER BY control")
    assert {"shuffled", "random"} <= {found["control"] for found in controls}


# -- of a user's own -------------------------------------------------------------------------------------------------

STEEPEST = """
from steering_core.vectors.methods import method

@method(passes=1)
def steepest(training):
    return training.preferences(training.start).gradients.mean(axis=0)
"""


def test_a_users_trained_method_is_one_decorated_function(toy_model: Model, tmp_path: Path, store: Store) -> None:
    file = tmp_path / "mine.py"
    file.write_text(STEEPEST)
    spec = spec_of(
        toy_model.folder, answered(20), tmp_path, methods=(f"{file}:steepest",), controls=0, train_layers=[0]
    )
    (vector,), _ = vectors_of(spec, store)
    assert (vector.method, vector.layer) == ("steepest", 0)
    assert vector.lineage["source"]
    assert along(vector.direction) > 0.9


def test_a_name_is_one_methods_whichever_its_kind() -> None:
    @method(passes=3, shared=1)
    def twice(training: Training) -> np.ndarray:
        return training.start

    assert (TRAINED["twice"].passes, TRAINED["twice"].shared) == (3, 1)
    assert method_name("twice") == "twice"

    @method
    def twice(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:  # noqa: F811
        return positive[0]

    assert "twice" in METHODS
    assert "twice" not in TRAINED
    with pytest.raises(VectorError, match="did you mean 'preference'"):
        method_name("preferense")


def test_a_method_that_finds_nothing_says_where(toy_model: Model, tmp_path: Path, store: Store) -> None:
    @method(passes=0)
    def nothing(training: Training) -> np.ndarray:
        return np.zeros_like(training.start)

    spec = spec_of(toy_model.folder, answered(20), tmp_path, methods=("nothing",), train_layers=[2])
    with pytest.raises(VectorError, match="answers at layer 2: nothing finds no direction in"):
        vectors_of(spec, store)


# -- before and beside a run -----------------------------------------------------------------------------------------


def test_the_plan_counts_what_is_trained(toy_model: Model, tmp_path: Path) -> None:
    spec = spec_of(toy_model.folder, answered(20), tmp_path, train_layers=[0, 2])
    preference, gradient = TRAINED["preference"], TRAINED["gradient"]
    assert training_passes(spec) == gradient.shared + preference.shared + 2 * 3 * preference.passes
    plain = spec_of(toy_model.folder, answered(20), tmp_path, methods=("mean_difference",))
    assert training_passes(plain) == 0


def test_the_command_derives_and_lists_them(toy_model: Model, tmp_path: Path) -> None:
    spec = spec_of(toy_model.folder, answered(20), tmp_path)
    asked = ["vectors", "derive", str(toy_model.folder), spec.concepts[0], "--method", "gradient", "--method", "lda"]
    asked += ["--train-layers", "1", "--layers", "0,2", "--controls", "0", "--draws", "0", "--format", "json"]
    done = CliRunner().invoke(app, [*asked, "--store", str(tmp_path / "store")])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert sorted((row["method"], row["layer"]) for row in rows) == [("gradient", 1), ("lda", 0), ("lda", 2)]
    names = [f"{row['concept']}/{row['method']}/{row['layer']}" for row in rows]
    last = CliRunner().invoke(app, [*asked[:-2], "--store", str(tmp_path / "store")]).stdout.splitlines()[-1]
    proposed = shlex.split(last.removeprefix("Try one: "))
    assert proposed[5].removeprefix("30%*") in names
    assert CliRunner().invoke(app, [*proposed[1:], "--max-tokens", "1"]).exit_code == 0


def test_a_layer_to_train_at_that_is_not_there_is_named_before_anything_runs(toy_model: Model, tmp_path: Path) -> None:
    spec, store = spec_of(toy_model.folder, answered(20), tmp_path, train_layers=[3]), Store(tmp_path / "store")
    with pytest.raises(LayerNotFound, match=r"layer 3: .* has layers 0\.\.2"):
        vectors_of(spec, store)
    assert store.rows("SELECT count(*) AS n FROM raw.activations")[0]["n"] == 0
