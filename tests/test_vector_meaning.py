"""Meaning and discovery on a tiny model and on made-up rows, the charts, and the verb's path through all of it."""

import contextlib
import json
from dataclasses import asdict
from pathlib import Path

import altair as alt
import numpy as np
import pytest
from typer.testing import CliRunner

from steering_core.backend.mlx import mx
from steering_core.cli.vectors import app, looking
from steering_core.concepts import Concept
from steering_core.foundation.errors import VectorAmbiguous, VectorError
from steering_core.models import Model
from steering_core.reports.charts.listed import charts_in
from steering_core.store import Store
from steering_core.store.queries import named_query
from steering_core.vectors import library, saving
from steering_core.vectors.discovery import clusters, components, discover
from steering_core.vectors.meaning import extreme_prompts, promoted_tokens, vector_logits
from steering_core.vectors.vector import Vector
from tests.stored import fill, identity, made_up_concept, planted_directions
from tests.verbs import typed


def test_vector_logits_are_final_norm_and_unembedding(tiny: Model) -> None:
    directions = np.random.default_rng(0).standard_normal((3, tiny.identity.width)).astype(np.float32)
    inner = tiny.network.model  # type: ignore[attr-defined]
    expected = np.array(inner.embed_tokens.as_linear(inner.norm(mx.array(directions))))
    np.testing.assert_allclose(vector_logits(tiny, directions), expected, atol=1e-4)


def test_an_unembedding_promotes_its_own_token(tiny: Model) -> None:
    inner = tiny.network.model  # type: ignore[attr-defined]
    tokens = [70, 120]
    rows = np.array(inner.embed_tokens.weight[mx.array(tokens)].astype(mx.float32)) / np.array(inner.norm.weight)
    found = promoted_tokens(tiny, [vector(tiny, row) for row in rows], k=3)
    for token, meaning in zip(tokens, found, strict=True):
        assert meaning.promoted[0][0] == tiny.tokenizer.decode([token])
        assert meaning.promoted[0][1] > 0 > meaning.suppressed[0][1]


def vector(model: Model, direction: np.ndarray) -> Vector:
    return Vector("0" * 20, model.identity.model_id, None, "made up", 1, 1.0, direction=direction.astype(np.float32))


# -- discovery -------------------------------------------------------------------------------------------------------


def test_planted_clusters_are_found_largest_first() -> None:
    random = np.random.default_rng(0)
    centres = 5 * random.standard_normal((3, 16))
    sizes = (60, 30, 10)
    rows = np.concatenate([c + 0.1 * random.standard_normal((n, 16)) for c, n in zip(centres, sizes, strict=True)])
    directions, shares = clusters(rows, 3, 0)
    np.testing.assert_allclose(shares, [0.6, 0.3, 0.1])
    for direction, centre in zip(directions, centres - rows.mean(axis=0), strict=True):
        assert direction @ centre / np.linalg.norm(direction) / np.linalg.norm(centre) > 0.999


def test_planted_components_are_found_with_their_spread() -> None:
    random = np.random.default_rng(0)
    axes = np.linalg.qr(random.standard_normal((16, 2)))[0].T
    rows = random.standard_normal((2000, 2)) * [3.0, 1.0] @ axes + 0.01 * random.standard_normal((2000, 16)) + 7.0
    directions, shares = components(rows, 2, 0)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), [3.0, 1.0], rtol=0.1)
    np.testing.assert_allclose(shares, [0.9, 0.1], atol=0.02)
    assert all(abs(d @ a) / np.linalg.norm(d) > 0.99 for d, a in zip(directions, axes, strict=True))
    for direction in directions:
        along = (rows - rows.mean(axis=0)) @ direction
        assert along.max() > -along.min()


def test_discovered_vectors_are_stored_once(store: Store) -> None:
    model, concept = identity(), made_up_concept("calm")
    fill(store, model, concept, planted_directions(norm=4.0))
    prompts = [row["prompt_id"] for row in store.rows("SELECT prompt_id FROM prompts")]
    found = discover(store, model, prompts, 1, "last", "clusters", 2)
    assert found == discover(store, model, prompts[::-1], 1, "last", "clusters", 2)
    assert sum(v.lineage["share"] for v in found) == pytest.approx(1.0)
    gap = found[0].direction - found[1].direction
    assert abs(gap @ planted_directions()[1]) / np.linalg.norm(gap) > 0.99
    sides = {text.split()[-1] for text in (str(r["text"]) for r in extreme_prompts(store, found[0], 5)[:5])}
    assert len(sides) == 1
    with pytest.raises(VectorError, match="did you mean 'clusters'"):
        discover(store, model, prompts, 1, "last", "cluster", 2)
    with pytest.raises(VectorError, match="fewer than prompts"):
        discover(store, model, prompts, 1, "last", "clusters", 40)


# -- the verb --------------------------------------------------------------------------------------------------------


def test_the_verb_derives_shows_blends_sends_and_draws(
    tmp_path: Path, tiny_folder: Path, concept: Concept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEERFLOW_STORE", str(tmp_path / "store"))
    (tmp_path / "loud.yaml").write_text(json.dumps(concept.model_dump(mode="json", exclude={"card"})))
    (tmp_path / "lines.txt").write_text("\n".join(f"line {i} of {i % 3}" for i in range(12)))

    def steer(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    model = str(tiny_folder)
    made = json.loads(
        steer(
            "derive",
            model,
            str(tmp_path / "loud.yaml"),
            "--method",
            "mean_difference",
            "--draws",
            "10",
            "--format",
            "json",
        )
    )
    assert [row["layer"] for row in made] == [0, 1, 2, 3]
    said = steer("derive", model, str(tmp_path / "loud.yaml"), "--draws", "10").splitlines()[-3:]
    assert "held out for the test" in said[0]
    assert "finds 2 errors in the concept" in said[1]
    assert f"steer generate {model}" in said[2]
    assert any(f"30%*loud/mean_difference/{row['layer']}" in said[2] for row in made)
    assert all(0 <= row["auc_test"] <= 1 for row in made)
    shown = json.loads(steer("show", "loud/mean_difference/2", "--tokens", "3", "--json"))
    assert shown["vector"]["layer"] == 2
    assert len(shown["tokens"]["promoted"]) == 3
    assert len(shown["prompts"]) == 6
    steer("blend", "2*loud/mean_difference", "--name", "louder")
    compared = json.loads(steer("compare", "loud/mean_difference", "louder", "--format", "json"))
    assert [round(row["cosine"], 6) for row in compared] == [1.0] * 4
    assert compared[0]["other_norm"] == pytest.approx(2 * compared[0]["norm"])
    for suffix in ("safetensors", "gguf"):
        steer("export", "louder/3", "--to", str(tmp_path / f"v.{suffix}"))
    steer("tag", "louder", "kept")
    steer("rm", "louder", "--all")
    assert json.loads(steer("list", "--format", "json"))[-1]["name"] is None
    assert "louder: vector" in steer("import", str(tmp_path / "v.gguf"))
    steer("name", "louder", "loudest")
    (listed,) = json.loads(steer("list", "loudest", "--format", "json"))
    assert (listed["layer"], listed["tags"]) == (3, ["kept"])
    found = json.loads(
        steer("discover", model, str(tmp_path / "lines.txt"), "--layer", "1", "-k", "2", "--format", "json")
    )
    assert [row["name"] for row in found] == ["lines-0", "lines-1"]
    steer("chart", "separation", "--to", str(tmp_path / "chart.html"))
    assert "vega" in (tmp_path / "chart.html").read_text()
    with pytest.raises(VectorAmbiguous, match="give --all"):
        steer("rm", "loud/mean_difference")
    draw_every_chart(Store.existing(tmp_path / "store"))


def shelf(tiny: Model, store: Store) -> list[Vector]:
    """Two vectors of the tiny model, at layers 1 and 2, called `mine`, in the store."""
    store.append("models", [asdict(tiny.identity)])
    drawn = np.random.default_rng(2).standard_normal((2, 32)).astype(np.float32)
    vectors = [
        Vector(f"{layer}" * 20, tiny.identity.model_id, None, "random", layer, 4.0, direction=row)
        for layer, row in zip((1, 2), drawn, strict=True)
    ]
    return saving.save(store, vectors, "mine")


def test_the_list_of_a_models_vectors_takes_its_name_or_key_and_no_other(tiny: Model, store: Store) -> None:
    shelf(tiny, store)
    other = identity(model_id="d" * 20)
    store.append("models", [asdict(other)])
    elsewhere = Vector("e" * 20, other.model_id, None, "random", 1, 4.0, direction=np.ones(other.width, np.float32))
    saving.save(store, [elsewhere], "theirs")
    asked = {other.name: ["theirs"], other.model_id: ["theirs"], tiny.identity.model_id: ["mine", "mine"]}
    for model, names in asked.items():
        rows = typed(app, "list", "--model", model, "--store", str(store.root), "--format", "json")
        assert [row["name"] for row in rows] == names
    with pytest.raises(VectorError, match="the store has no model 'nobody'"):
        typed(app, "list", "--model", "nobody", "--store", str(store.root), "--format", "json")


def test_a_name_of_several_layers_is_shown_with_one_loading_of_the_model(
    tiny: Model, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, loaded = shelf(tiny, store), []
    monkeypatch.setattr(looking, "open_model", lambda name: loaded.append(name) or contextlib.nullcontext(tiny))
    shown = typed(app, "show", "mine", "--tokens", "3", "--json", "--store", str(store.root))
    assert loaded == [tiny.identity.name]
    for vector, one in zip(vectors, shown, strict=True):
        (alone,) = promoted_tokens(tiny, [vector], 3)
        assert one["tokens"]["promoted"] == [[token, pytest.approx(score, rel=1e-4)] for token, score in alone.promoted]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--method", "cluster"], "there is no discovery 'cluster'"),
        (["-k", "12"], "12 directions from 12 prompts"),
        (["--name", "two words"], "'two words-0' cannot be a vector's name"),
    ],
)
def test_what_cannot_be_discovered_is_told_before_anything_is_extracted(
    tiny_folder: Path, store: Store, tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "lines.txt").write_text("\n".join(f"line {i} of {i % 3}" for i in range(12)))
    words = ["discover", str(tiny_folder), str(tmp_path / "lines.txt"), "--layer", "1", "--store", str(store.root)]
    with pytest.raises(VectorError, match=said):
        typed(app, *words, *options)
    assert not store.rows("SELECT 1 FROM raw.activations")


def draw_every_chart(store: Store) -> None:
    """Each chart compiles, and has a mark for the rows that there are."""
    for chart in charts_in("command").values():
        drawn = chart.drawn(store.rows(named_query(chart.query)), {})
        assert isinstance(drawn, alt.TopLevelMixin)
        assert drawn.to_dict()["spec"]["layer"]
    assert library.find_all(store, "loud")
