"""Stability: seeds share no text, halves share no training pair, and a second look computes nothing."""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from steering_core.cli.stability import app
from steering_core.concepts import Concept
from steering_core.pipeline.stability import half_of, swing, variants
from steering_core.spec import Spec
from steering_core.store import Store
from tests import quick


@pytest.fixture
def spec(tmp_path: Path, tiny_folder: Path, concept: Concept) -> Path:
    """A spec of two layers on the tiny model."""
    about = tmp_path / "loud.yaml"
    about.write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    grid = {"layers": [1, 2], "doses": [0.3], "prompts": 2, "max_tokens": 2, "shortlist": 2}
    path = tmp_path / "spec.yaml"
    path.write_text(
        yaml.safe_dump({"models": [str(tiny_folder)], "concepts": [str(about)], "generations": grid, **quick.SPEC})
    )
    return path


def test_halves_share_no_training_pair_and_everything_else(concept: Concept) -> None:
    halves = [half_of(concept, i) for i in (0, 1)]
    training = [{pair.pair_id for pair in half.pairs_in("train")} for half in halves]
    assert training[0] & training[1] == set()
    assert training[0] | training[1] == {pair.pair_id for pair in concept.pairs_in("train")}
    for half in halves:
        assert half.items_in("test") != []
        assert {i.item_id for i in half.items_in("test")} == {i.item_id for i in concept.items_in("test")}
        assert {p.pair_id for p in half.pairs_in("test")} == {p.pair_id for p in concept.pairs_in("test")}


def test_seeds_share_no_text(concept: Concept) -> None:
    spec = Spec(models=("m",), concepts=("c",), generations={"samples": 3, "seed": 5})
    seeds = [set(one.spec.generations.seeds) for one in variants(spec, concept, 4, halves=False)]
    assert sum(map(len, seeds)) == len(set.union(*seeds)) == 12
    assert [one.what for one in variants(spec, concept, 2, halves=True)][2:] == [
        "half 1 of the pairs",
        "half 2 of the pairs",
    ]
    assert swing([0.2, 0.3]) == pytest.approx(1.5)


def test_the_verb_recommends_for_every_variant_and_reuses_what_no_seed_changes(spec: Path, tmp_path: Path) -> None:
    to = [str(spec), "--seeds", "2", "--store", str(tmp_path / "store"), "--format", "json"]
    rows = json.loads(CliRunner().invoke(app, to, catch_exceptions=False).stdout)
    assert [row["variant"] for row in rows] == ["seed 0", "seed 2", "half 1 of the pairs", "half 2 of the pairs"]
    assert rows[0]["layers"] == rows[1]["layers"]  # no seed changes what was searched
    store = Store(tmp_path / "store")
    (counted,) = store.rows("SELECT count(*) AS n, count(DISTINCT recommendation_id) AS different FROM stability")
    assert counted == {"n": 4, "different": 4}
    measured = store.rows("SELECT count(*) AS n FROM raw.measurements")
    assert json.loads(CliRunner().invoke(app, to, catch_exceptions=False).stdout) == rows
    assert store.rows("SELECT count(*) AS n FROM raw.measurements") == measured
    assert store.rows("SELECT count(*) AS n FROM stability") == [{"n": 4}]
