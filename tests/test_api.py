"""The Python API: three lines to open, to get a vector, to generate."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import steering_core as steer
from steering_core.api.generate import intervention
from steering_core.api.options import DEFAULT
from steering_core.api.quick_vectors import residual_stream
from steering_core.backend.mlx import mx
from steering_core.concepts import Concept
from steering_core.exports.files import export_vectors, import_vectors
from steering_core.foundation.errors import (
    ConceptError,
    Diverged,
    InterventionError,
    LayerNotFound,
    SamplingError,
    StoreError,
    VectorError,
    VectorMismatch,
    WordUnknown,
)
from steering_core.models import Model
from steering_core.store import Store

SHORT = steer.Sampling(max_tokens=8)


@pytest.fixture(scope="module")
def vector(tiny: Model) -> steer.Vector:
    return steer.contrast(tiny, "I love it", "I hate it", layer=1)


def test_every_public_name_is_there_and_listed_once() -> None:
    assert sorted(steer._HOME) == sorted(steer.__all__)
    for name in steer.__all__:
        assert getattr(steer, name).__doc__, name
    assert set(steer.__all__) <= set(dir(steer))
    with pytest.raises(AttributeError, match="no attribute 'steer_well'"):
        steer.steer_well  # noqa: B018


@pytest.mark.parametrize("first", ["run", "activations", "open_model", "contrast"])
def test_activations_can_be_called_whatever_was_used_before(first: str) -> None:
    """The function has the name of a package, which other modules import."""
    code = f"import steering_core as steer; steer.{first}; steer.contrast; steer.activations('no', 1, store='nowhere')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "StoreError: there is no store" in done.stderr


def test_the_package_says_that_it_is_typed() -> None:
    """PEP 561: without the file a user's type checker takes every name for Any."""
    assert (files("steering_core") / "py.typed").is_file()


def test_words_are_explained() -> None:
    assert "residual" in steer.explain("dose")
    assert steer.explain("mean_difference").startswith("Mean of positive minus mean of negative")
    assert "not derived here" in steer.explain("given")
    with pytest.raises(WordUnknown, match="did you mean 'dose'"):
        steer.explain("dosse")


def test_a_contrast_is_the_difference_at_the_last_tokens(tiny: Model, vector: steer.Vector) -> None:
    streams = [residual_stream(tiny, tuple(tiny.tokenizer.encode(text)), 1) for text in ("I love it", "I hate it")]
    np.testing.assert_array_equal(vector.direction, streams[0][-1] - streams[1][-1])
    norms = np.concatenate([np.linalg.norm(s[1:], axis=-1) for s in streams])
    assert vector.residual_norm == pytest.approx(norms.mean())
    assert vector == steer.contrast(tiny, "I love it", "I hate it", layer=1)
    answers = steer.contrast(tiny, "Yes", "No", layer=2, question="Is it?")
    assert answers.layer == 2
    with pytest.raises(VectorError, match="no direction between them"):
        steer.contrast(tiny, "same", "same", layer=1)
    with pytest.raises(LayerNotFound, match="layer 7"):
        steer.contrast(tiny, "a", "b", layer=7)


def test_generate_stream_and_compare_agree(tiny: Model, vector: steer.Vector) -> None:
    steered = steer.generate(tiny, "Hello", vector, alpha=4, sampling=SHORT)
    plain = steer.generate(tiny, "Hello", sampling=SHORT)
    assert steered != plain
    assert "".join(steer.stream(tiny, "Hello", vector, alpha=4, sampling=SHORT)) == steered
    strong = vector.intervention(20, "generation")
    assert steer.compare(tiny, "Hello", [None, strong, None], sampling=SHORT) == [plain, steered, plain]
    assert steer.generate(tiny, "Hello", vector, alpha=0, sampling=SHORT) == plain


def test_a_steered_model_is_asked_like_a_model(tiny: Model, vector: steer.Vector) -> None:
    formal = steer.Steered(tiny, vector, alpha=4, sampling=SHORT)
    assert formal.layer == 1
    assert formal.compare("Hello") == (steer.generate(tiny, "Hello", sampling=SHORT), formal.generate("Hello"))
    assert "".join(formal.stream("Hello")) == formal.generate("Hello")
    assert formal.at(0).generate("Hello") == formal.compare("Hello")[0]


def test_a_vector_of_another_model_is_refused(tiny: Model, vector: steer.Vector) -> None:
    foreign = steer.Vector("v", "another", None, "made", 1, 1.0, direction=vector.direction)
    with pytest.raises(VectorMismatch, match="another"):
        steer.generate(tiny, "Hello", foreign)
    with pytest.raises(VectorMismatch):
        steer.Steered(tiny, foreign)


def test_divergence_names_layer_and_strength(tiny: Model, vector: steer.Vector) -> None:
    with pytest.raises(Diverged, match=r"add at layer 1 with 1e\+30"):
        steer.generate(tiny, "Hello", vector.intervention(1e30, "generation"))
    with pytest.raises(Diverged, match="lower the strength"):
        list(steer.stream(tiny, "Hello", vector.intervention(1e30, "generation")))


def test_an_alpha_that_lost_its_percent_sign_is_asked_about(tiny: Model, vector: steer.Vector) -> None:
    with pytest.raises(InterventionError, match="did you mean 30%"):
        steer.generate(tiny, "Hello", vector, alpha=30)


def test_an_expression_needs_its_vectors(tiny: Model, tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = tmp_path_factory.mktemp("empty") / "store"
    with pytest.raises(StoreError, match="there is no store"):
        steer.generate(tiny, "Hello", "0.5*formality", store=nowhere)
    with pytest.raises(InterventionError, match=r"\^"):
        steer.generate(tiny, "Hello", "0.5*", store=nowhere)


def test_position_deltas_are_one_delta_a_position(tiny: Model, vector: steer.Vector) -> None:
    done = steer.position_deltas(2, {1: vector.direction, -1: -vector.direction}, alpha=3)
    assert [(c.layer, c.amount, c.where.positions) for c in done.changes] == [(2, 3, (1,)), (2, 3, (-1,))]
    added = steer.activation_addition(tiny, "Love", "Hat", layer=1, alpha=2)
    assert [c.where.positions for c in added.changes] == [
        (0,),
        (1,),
        (2,),
        (3,),
    ]  # there is no BOS token
    np.testing.assert_array_equal(
        added.changes[-1].direction, residual_stream(tiny, tuple(tiny.tokenizer.encode("Love")), 1)[3]
    )
    assert steer.generate(tiny, "Hello", added, sampling=SHORT, chat=False) != steer.generate(
        tiny, "Hello", sampling=SHORT, chat=False
    )


def test_an_activation_addition_leaves_alone_what_both_texts_begin_with_and_nothing_else(tiny: Model) -> None:
    one_token = steer.activation_addition(tiny, "c", "d", 1, 3.0)
    streams = [residual_stream(tiny, tuple(tiny.tokenizer.encode(text)), 1) for text in "cd"]
    np.testing.assert_array_equal(one_token.changes[0].direction, streams[0][0] - streams[1][0])
    shared = steer.activation_addition(tiny, "so cat", "so dog", 1, 3.0)
    assert [c.where.positions for c in shared.changes] == [(3,), (4,), (5,)]
    with pytest.raises(VectorError, match="'cat' and 'cat' are the same tokens, so nothing is left to add"):
        steer.activation_addition(tiny, "cat", "cat", 1, 3.0)


def test_a_direction_cannot_be_changed_behind_its_key(tiny: Model, vector: steer.Vector) -> None:
    given = np.ones(32, np.float32)
    mine = steer.Vector.from_numpy(tiny, given, layer=np.int64(1), name="mine")
    assert type(mine.layer) is int
    given[:] = 7
    np.testing.assert_array_equal(mine.direction, np.ones(32))
    for one in (mine, vector, 2 * vector, mine.keyed()):
        with pytest.raises(ValueError, match="read-only"):
            one.direction[0] = 1
    assert steer.generate(tiny, "Hi", mine, dose=0.3, sampling=SHORT)


def test_vectors_are_summed_read_as_arrays_and_shown_with_name_and_position(
    tiny: Model, vector: steer.Vector, tmp_path: Path
) -> None:
    assert sum([vector, vector]).vector_id == (vector + vector).vector_id  # type: ignore[union-attr]
    np.testing.assert_array_equal(np.asarray(vector), vector.direction)
    assert np.asarray(vector, np.float64).dtype == np.float64
    mine = steer.Vector.from_numpy(tiny, np.ones(32), layer=1)
    assert repr(mine).startswith(f"<Vector {mine.vector_id}: given at layer 1, position unknown, width 32")
    for named in (steer.save_vector(tiny, mine, "my-own", tmp_path), steer.find_vector(tiny, "my-own", tmp_path)):
        assert repr(named).startswith(f"<Vector my-own {mine.vector_id}: given at layer 1, position unknown")


@pytest.mark.parametrize(
    ("what", "strength", "says"),
    [
        (np.ones(32), {"dose": 0.1}, r"ndarray cannot steer: make a vector of a direction, Vector\.from_numpy"),
        ([0.5] * 32, {}, r"list cannot steer: make a vector of a direction, Vector\.from_numpy"),
        (7, {"dose": 0.1}, "int cannot steer: give a Vector, several"),
        ("vector", {"dose": "30%"}, r"a dose of '30%' is no number: .* 0\.3 for 30%"),
        ("vector", {"alpha": "2"}, "alpha is '2', which is no number"),
    ],
)
def test_what_is_no_vector_and_no_strength_is_one_named_error(
    tiny: Model, vector: steer.Vector, what: Any, strength: dict[str, Any], says: str
) -> None:
    with pytest.raises(InterventionError, match=says):
        steer.generate(tiny, "Hi", vector if isinstance(what, str) else what, **strength)


def test_a_direction_that_is_no_array_is_named(tiny: Model) -> None:
    for wrong in ("north", [[1.0], [1.0, 2.0]]):
        with pytest.raises(VectorError, match="is no list of numbers"):
            steer.Vector.from_numpy(tiny, wrong, layer=1)


@pytest.mark.parametrize("norm", [0.0, -1.0, float("nan")])
def test_a_residual_norm_that_no_dose_can_be_relative_to_is_refused(tiny: Model, norm: float) -> None:
    with pytest.raises(VectorError, match="residual_norm is"):
        steer.Vector.from_numpy(tiny, np.ones(32), layer=1, residual_norm=norm)


@pytest.mark.parametrize("layer", ["1", 1.0])
def test_a_layer_of_a_vector_is_a_whole_number(tiny: Model, layer: Any) -> None:
    with pytest.raises(LayerNotFound, match="is no whole number"):
        steer.Vector.from_numpy(tiny, np.ones(32), layer=layer)
    with pytest.raises(LayerNotFound, match="is no whole number"):
        steer.contrast(tiny, "a", "b", layer=layer)


def test_a_concept_gives_the_vector_that_a_run_derives(tiny: Model, agree_run: Path) -> None:
    concept = steer.load_concept(str(agree_run.parent / "agree.yaml"))
    found = steer.derive_vector(tiny, concept, 1)
    (stored,) = Store(agree_run).rows(
        "SELECT vector, n_pairs, residual_norm FROM vectors WHERE layer = 1 AND control IS NULL AND method = ?",
        ["mean_difference"],
    )
    assert (found.position, found.n_pairs, found.lineage["concept"]) == ("response", stored["n_pairs"], "agree")
    np.testing.assert_allclose(found.direction, stored["vector"], rtol=1e-3, atol=1e-4)
    assert found.residual_norm == pytest.approx(stored["residual_norm"], rel=1e-3)
    pairs = concept.pairs_in("train")
    for same in (pairs, [pair.model_dump() for pair in pairs]):
        again = steer.derive_vector(tiny, same, 1)
        assert again.position == "response"
        np.testing.assert_allclose(again.direction, found.direction, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (7, "not from a int: give"),
        ([], "there are none"),
        ([("a", "b"), "cd"], "pair 1 is 'cd'"),
        ([{"positive": "a"}], "negative"),
        ([(1, 2)], "pair 0"),
    ],
)
def test_what_are_no_pairs_is_one_named_error(tiny: Model, wrong: Any, says: str) -> None:
    with pytest.raises(VectorError, match=says):
        steer.derive_vector(tiny, wrong, 1)
    with pytest.raises(ConceptError, match="there is no concept 'text'"):
        steer.derive_vector(tiny, "text", 1)


def test_nothing_is_no_intervention(tiny: Model) -> None:
    assert intervention(tiny, None) == steer.Intervention()
    assert DEFAULT.temperature == 0


def test_a_vector_of_several_pairs_is_their_mean_difference_and_can_be_kept(tiny: Model, tmp_path: Path) -> None:
    pairs = [("I love it so", "I hate it so"), ("What joy!", "What grief!"), ("I love it so", "Nothing here")]
    found = steer.derive_vector(tiny, pairs, layer=2)
    each = [steer.contrast(tiny, *pair, layer=2).direction for pair in pairs]
    np.testing.assert_allclose(found.direction, np.mean(each, axis=0), rtol=1e-4, atol=1e-5)
    assert found.n_pairs == 3
    steer.save_vector(tiny, found, "joy", tmp_path / "store")
    assert steer.find_vector(tiny, "joy", tmp_path / "store").vector_id == found.vector_id
    export_vectors(Store(tmp_path / "store"), [found], tmp_path / "joy.gguf")
    (read,) = import_vectors(Store(tmp_path / "another"), tmp_path / "joy.gguf", tiny)
    np.testing.assert_allclose(read.direction, found.direction, rtol=1e-6)


@pytest.mark.real
def test_a_text_of_one_token_is_not_read_at_the_attention_sink(real: Model) -> None:
    """Token 0's stream is a hundred times as long as any other."""
    found = steer.contrast(real, "Love", "Hate", layer=15)
    assert 100 < found.residual_norm < 400
    assert found.norm < 400


@pytest.mark.parametrize(
    "wrong",
    [{"max_tokens": 0}, {"max_tokens": -1}, {"temperature": -1.0}, {"temperature": float("nan")}, {"seed": -1},
     {"stop": "you"}, {"stop": ("",)}],
)  # fmt: skip
def test_sampling_that_means_nothing_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SamplingError, match=next(iter(wrong))):
        steer.Sampling(**wrong)


def test_what_cannot_steer_is_named(tiny: Model, vector: steer.Vector) -> None:
    with pytest.raises(InterventionError, match="a list cannot steer"):
        steer.generate(tiny, "Hello", [vector, 3])  # type: ignore[list-item]
    with pytest.raises(InterventionError, match="alpha = 50"):
        steer.generate(tiny, "Hello", vector.intervention(1.0, "generation"), alpha=50)
    with pytest.raises(LayerNotFound, match=r"layer 1\.5"):
        steer.contrast(tiny, "yes", "no", layer=1.5)
    with pytest.raises(VectorError, match="pairs"):
        steer.derive_vector(tiny, ["yes", "no"], layer=1)


def test_an_open_model_may_be_kept_without_a_with(tiny_folder: Path) -> None:
    model = steer.open_model(str(tiny_folder))
    assert steer.generate(model, "Hello", sampling=steer.Sampling(max_tokens=3)) is not None
    model.close()


def test_logits_are_the_network_s_own_and_a_vector_moves_them_where_it_acts(tiny: Model, vector: steer.Vector) -> None:
    tokens = tiny.tokenizer.encode("I love it")
    base = steer.logits(tiny, "I love it", chat=False)
    assert (base.shape, base.dtype) == ((len(tokens), tiny.identity.vocab_size), np.float32)
    own = np.array(tiny.network(mx.array([tokens]))[0].astype(mx.float32))
    np.testing.assert_allclose(base, own, rtol=1e-4, atol=1e-4)
    steered = steer.logits(tiny, "I love it", vector, dose=0.5, chat=False)
    np.testing.assert_allclose(steered[:-1], base[:-1], rtol=1e-4, atol=1e-4)
    assert not np.allclose(steered[-1], base[-1], atol=1e-2)
    everywhere = steer.logits(tiny, "I love it", vector, dose=0.5, chat=False, phase="all")
    assert not np.allclose(everywhere[0], base[0], atol=1e-2)


def test_kl_is_that_of_the_logits_last_rows(tiny: Model, vector: steer.Vector) -> None:
    before, after = (steer.logits(tiny, "I love it", what, chat=False)[-1].astype(float) for what in (None, vector))
    p, q = (row - np.logaddexp.reduce(row) for row in (before, after))
    assert steer.kl(tiny, "I love it", vector, chat=False) == pytest.approx(
        float((np.exp(p) * (p - q)).sum()), rel=1e-3
    )
    assert steer.kl(tiny, "I love it", None, chat=False) == 0
    far = steer.Intervention(tuple(steer.Change(vector.layer, vector.direction, 3e37) for _ in range(8)))
    with pytest.raises(Diverged, match="lower the strength"):
        steer.logits(tiny, "I love it", far, chat=False)


@pytest.mark.parametrize("several", [[1], 7, None])
def test_a_dose_sweep_says_what_it_takes(tiny: Model, several: Any, tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="a dose sweep is of one Vector or the name of one"):
        steer.dose_sweep(tiny, several, "sentiment", store=tmp_path)


def test_a_dose_sweep_without_held_out_items_says_what_it_lacks(tiny: Model, tmp_path: Path) -> None:
    vector = steer.Vector.from_numpy(tiny, np.ones(32), layer=1, residual_norm=1.0)
    bare = Concept(name="bare", pairs=[{"positive": "a", "negative": "b"}])
    with pytest.raises(ConceptError, match="concept bare has no held-out items in the split validation"):
        steer.dose_sweep(tiny, vector, bare, [0.1], store=tmp_path / "store")


def test_the_citation_is_of_this_version() -> None:
    cited = yaml.safe_load(Path("CITATION.cff").read_text())
    assert (cited["version"], cited["license"]) == (steer.__version__, "MIT")
