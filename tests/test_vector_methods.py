"""Methods: planted directions recovered, symmetries held, degenerate input a right answer or a named error."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf_shrinkage
from sklearn.decomposition import PCA

from steering_core.foundation.errors import VectorError
from steering_core.spec import Spec, VectorsSpec
from steering_core.vectors.controls import random_direction, shuffled_direction
from steering_core.vectors.linear import ledoit_wolf, top_component, top_components
from steering_core.vectors.methods import METHODS, derived_direction, method, method_key, method_name

ALL = tuple(METHODS)
OF_PAIRS = tuple(name for name in ALL if name != "single_pair")
WIDTH = 24


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def planted(
    n: int, noise: float, seed: int = 0, width: int = WIDTH, spread: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs that share a topic and differ by a planted unit direction (times 1, or 1 ± spread) and by noise."""
    random = np.random.default_rng(seed)
    direction = random.standard_normal(width)
    direction /= np.linalg.norm(direction)
    topic = random.standard_normal((n, width)) * 0.3
    topic -= np.outer(topic @ direction, direction)
    strength = 1 + spread * random.standard_normal(n)
    gap = np.outer(strength, direction)
    sides = [topic + sign * gap + noise * random.standard_normal((n, width)) for sign in (0.5, -0.5)]
    return direction, sides[0].astype(np.float32), sides[1].astype(np.float32)


@pytest.mark.parametrize("name", [n for n in ALL if n != "pca_centred"])
def test_a_planted_direction_is_recovered(name: str) -> None:
    # one pair alone carries its own noise: 0.02 a coordinate against a gap of 1; the others average 0.1 over 400 pairs
    noise = 0.02 if name == "single_pair" else 0.1
    direction, positive, negative = planted(400, noise)
    assert cosine(derived_direction(name, positive, negative), direction) > 0.99


def test_centred_pca_recovers_what_pairs_differ_in_by_varying_amounts() -> None:
    direction, positive, negative = planted(400, 0.1, spread=1.0)
    assert cosine(derived_direction("pca_centred", positive, negative), direction) > 0.99


def test_lda_sees_past_noise_that_hides_the_mean_difference() -> None:
    direction, positive, negative = planted(200, 0.05)
    loud = np.zeros(WIDTH)
    loud[3] = 40.0
    random = np.random.default_rng(1)
    positive = positive + random.standard_normal((200, 1)) * loud
    negative = negative + random.standard_normal((200, 1)) * loud
    clean = direction.copy()
    clean[3] = 0
    assert abs(cosine(derived_direction("mean_difference", positive, negative), clean)) < 0.9
    assert cosine(derived_direction("lda", positive, negative), clean) > 0.97


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 20))
def test_a_rotation_of_the_stream_rotates_the_direction(name: str, seed: int, n: int) -> None:
    _, positive, negative = planted(n, 0.1, seed)
    turn, _ = np.linalg.qr(np.random.default_rng(seed + 1).standard_normal((WIDTH, WIDTH)))
    turned = derived_direction(name, positive.astype(float) @ turn.T, negative.astype(float) @ turn.T)
    assert cosine(turned, turn @ derived_direction(name, positive, negative)) > 1 - 1e-5


@pytest.mark.parametrize("name", OF_PAIRS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 20))
def test_the_order_of_pairs_does_not_matter(name: str, seed: int, n: int) -> None:
    _, positive, negative = planted(n, 0.1, seed)
    order = np.random.default_rng(seed).permutation(n)
    np.testing.assert_allclose(
        derived_direction(name, positive[order], negative[order]),
        derived_direction(name, positive, negative),
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), scale=st.floats(0.01, 100))
def test_scaled_activations_scale_the_direction(name: str, seed: int, scale: float) -> None:
    _, positive, negative = planted(12, 0.1, seed)
    found = derived_direction(name, positive.astype(float) * scale, negative.astype(float) * scale)
    plain = derived_direction(name, positive, negative)
    if name.startswith("logistic"):  # the penalty has a scale of its own: only the length follows
        assert np.linalg.norm(found) == pytest.approx(scale * np.linalg.norm(plain), rel=1e-5)
    else:
        np.testing.assert_allclose(found, scale * plain, atol=1e-5 * scale)


@pytest.mark.parametrize("name", [n for n in OF_PAIRS if n != "lda" and not n.startswith("logistic")])
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(3, 12), times=st.integers(2, 4))
def test_every_pair_given_again_changes_nothing(name: str, seed: int, n: int, times: int) -> None:
    _, positive, negative = planted(n, 0.1, seed)
    found = derived_direction(name, np.tile(positive, (times, 1)), np.tile(negative, (times, 1)))
    np.testing.assert_allclose(found, derived_direction(name, positive, negative), atol=1e-5)


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_exchanged_sides_turn_the_direction_round(name: str, seed: int) -> None:
    _, positive, negative = planted(9, 0.1, seed)
    np.testing.assert_allclose(
        derived_direction(name, negative, positive), -derived_direction(name, positive, negative), atol=1e-5
    )


@pytest.mark.parametrize("name", ALL)
def test_one_pair_gives_its_difference_or_a_named_error(name: str) -> None:
    _, positive, negative = planted(1, 0.1)
    if name == "pca_centred":
        with pytest.raises(VectorError, match="pca_centred finds no direction in one pair: give it two or more"):
            derived_direction(name, positive, negative)
        return
    found = derived_direction(name, positive, negative)
    difference = (positive - negative)[0].astype(float)
    if name == "mean_difference_orthogonal":
        shared = (positive + negative)[0].astype(float)
        assert abs(cosine(found, shared)) < 1e-6
    else:
        np.testing.assert_allclose(found, difference, atol=1e-6)


@pytest.mark.parametrize("name", ALL)
def test_identical_sides_are_a_named_error(name: str) -> None:
    _, positive, _ = planted(8, 0.1)
    with pytest.raises(VectorError, match=f"{name} finds no direction in 8 pairs"):
        derived_direction(name, positive, positive)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("width", [8, 200])  # more and fewer dimensions than samples
def test_constant_columns_get_no_weight(name: str, width: int) -> None:
    _, positive, negative = planted(20, 0.1, width=width)
    positive[:, 2] = negative[:, 2] = 7.0
    if name == "mean_difference_orthogonal":  # the shared mean has that column, so taking it out brings it in
        positive[:, 2] = negative[:, 2] = 0.0
    found = derived_direction(name, positive, negative)
    assert np.isfinite(found).all()
    assert abs(found[2]) < 1e-5 * np.linalg.norm(found)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_activations_that_are_not_finite_are_named(name: str, bad: float) -> None:
    _, positive, negative = planted(8, 0.1)
    negative[3, 5] = bad
    with pytest.raises(VectorError, match=r"not finite \(pairs 3\)"):
        derived_direction(name, positive, negative)


def test_faulty_calls_are_named() -> None:
    _, positive, negative = planted(8, 0.1)
    with pytest.raises(VectorError, match="did you mean 'mean_difference'"):
        derived_direction("mean_diference", positive, negative)
    with pytest.raises(VectorError, match=r"\(8, 24\) and \(7, 24\)"):
        derived_direction("mean_difference", positive, negative[1:])
    with pytest.raises(VectorError, match="for each pair"):
        derived_direction("mean_difference", positive[:0], negative[:0])


@pytest.mark.parametrize("shape", [(10, 40), (60, 12)])
def test_shrinkage_and_components_are_scikit_learns(shape: tuple[int, int]) -> None:
    rows = np.random.default_rng(0).standard_normal(shape) * np.linspace(1, 3, shape[1])
    rows -= rows.mean(axis=0)
    assert ledoit_wolf(rows) == pytest.approx(ledoit_wolf_shrinkage(rows, assume_centered=True), rel=1e-9)
    expected = PCA(n_components=3).fit(rows).components_
    np.testing.assert_allclose(np.abs((top_components(rows, 3) * expected).sum(axis=1)), 1, atol=1e-9)


def test_directions_that_the_rows_lack_are_zero() -> None:
    assert not top_component(np.zeros((4, 6))).any()
    rows = np.outer([1.0, 2.0, -1.0], np.eye(6)[1])
    found = top_components(rows, 5)
    np.testing.assert_allclose(np.abs(found[0]), np.eye(6)[1])
    assert not found[1:].any()


# -- controls --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_controls_have_the_vectors_norm_and_not_its_direction(name: str) -> None:
    _, positive, negative = planted(40, 0.1, width=200)
    found = derived_direction(name, positive, negative)
    for control in (random_direction(found, 1), shuffled_direction(name, positive, negative, found, 1)):
        assert np.linalg.norm(control) == pytest.approx(np.linalg.norm(found))
        assert abs(cosine(control, found)) < 0.5
    again = shuffled_direction(name, positive, negative, found, 1)
    np.testing.assert_array_equal(again, shuffled_direction(name, positive, negative, found, 1))


@pytest.mark.parametrize("name", [n for n in OF_PAIRS if n != "pca_pooled"])
def test_shuffled_labels_hold_nothing_of_a_planted_direction(name: str) -> None:
    direction, positive, negative = planted(60, 0.3, spread=0.5)
    found = derived_direction(name, positive, negative)
    cosines = [cosine(shuffled_direction(name, positive, negative, found, seed), direction) for seed in range(40)]
    assert abs(np.mean(cosines)) < 0.25


def test_one_pair_has_a_random_shuffled_control() -> None:
    _, positive, negative = planted(1, 0.1, width=200)
    found = derived_direction("mean_difference", positive, negative)
    assert abs(cosine(shuffled_direction("mean_difference", positive, negative, found, 5), found)) < 0.5


def test_a_method_that_was_typed_into_a_prompt_has_a_key_of_its_code() -> None:
    keys = []
    for body in ("p - n", "n - p", "p - n"):
        typed: dict[str, object] = {"method": method}
        exec(f"@method\ndef typed(p, n):\n    return ({body}).mean(0)", typed)
        keys.append(method_key("typed"))
    assert keys[0] == keys[2] != keys[1]
    assert method_key("lda") is None


# -- methods of a user's file ----------------------------------------------------------------------------------------

MEDIAN = """
import numpy as np
from steering_core.vectors.methods import method

@method
def median_difference(positive, negative):
    return np.median(positive - negative, axis=0)
"""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Methods that a test registers are gone after it."""
    for name, function in METHODS.items():
        monkeypatch.setitem(METHODS, name, function)
    monkeypatch.delitem(METHODS, "median_difference", raising=False)


@pytest.mark.usefixtures("registry")
def test_a_method_of_a_users_file_is_found_by_file_and_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MEDIAN)
    direction, positive, negative = planted(200, 0.1)
    found = derived_direction(f"{file}:median_difference", positive, negative)
    np.testing.assert_allclose(found, np.median(positive.astype(float) - negative, axis=0))
    assert cosine(found, direction) > 0.99
    assert method_name(f"{file}:median_difference") == "median_difference"
    assert method_key("median_difference") is not None
    spec = Spec(models=("m",), concepts=("c",), vectors=VectorsSpec(methods=(f"{file}:median_difference",)))
    assert Spec.model_validate(spec.model_dump()) == spec


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("1 / 0", "cannot be run: ZeroDivisionError"),
        ("raise SystemExit(3)", "cannot be run: SystemExit: 3"),
        ("x = 1", "has no method 'median_difference'"),
        (MEDIAN.replace("median_difference", "lda"), "has a method 'lda', which there is already"),
        (None, "cannot be read: No such file"),
    ],
)
def test_a_file_without_the_method_is_refused_and_changes_nothing(
    tmp_path: Path, source: str | None, says: str
) -> None:
    before = dict(METHODS)
    if source is not None:
        (tmp_path / "mine.py").write_text(source)
    with pytest.raises(VectorError, match=says):
        method_name(f"{tmp_path}/mine.py:median_difference")
    assert before == METHODS


@pytest.mark.usefixtures("registry")
def test_a_file_that_was_edited_is_run_again_and_keyed_by_what_was_run(tmp_path: Path) -> None:
    file, (_, positive, negative) = tmp_path / "mine.py", planted(20, 0.1)
    file.write_text(MEDIAN)
    name = f"{file}:median_difference"
    first, key = derived_direction(name, positive, negative), method_key("median_difference")
    file.write_text(MEDIAN.replace("np.median(", "7 * np.median("))
    assert method_key("median_difference") == key, "the key is of the code that was run, not of the file as it is now"
    np.testing.assert_allclose(derived_direction(name, positive, negative), 7 * first)
    assert method_key("median_difference") != key
    file.write_text(MEDIAN)
    np.testing.assert_array_equal(derived_direction(name, positive, negative), first)
    assert method_key("median_difference") == key


@pytest.mark.usefixtures("registry")
def test_a_function_that_a_known_file_lacks_is_named_and_one_that_it_lost_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MEDIAN)
    method_name(f"{file}:median_difference")
    before = dict(METHODS)
    with pytest.raises(VectorError, match=r"mine\.py has no method 'nope': it has median_difference"):
        method_name(f"{file}:nope")
    assert before == METHODS
    file.write_text(MEDIAN.replace("median_difference", "renamed"))
    with pytest.raises(VectorError, match=r"mine\.py has no method 'median_difference': it has renamed"):
        method_name(f"{file}:median_difference")
    assert method_name(f"{file}:renamed") == "renamed"
    assert "median_difference" not in METHODS
    METHODS.pop("renamed")


@pytest.mark.usefixtures("registry")
def test_a_method_that_fails_is_named_with_its_file(tmp_path: Path) -> None:
    file, (_, positive, negative) = tmp_path / "mine.py", planted(20, 0.1)
    file.write_text(MEDIAN.replace("np.median(", "np.mediann("))
    with pytest.raises(VectorError, match=r"of .*mine.py failed in line \d+: AttributeError: .*mediann") as caught:
        derived_direction(f"{file}:median_difference", positive, negative)
    assert isinstance(caught.value.__cause__, AttributeError)
