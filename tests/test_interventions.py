"""Interventions: what each operation promises, where changes act, and that nothing else moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.backend.mlx import mx
from steering_core.engine.forward import read
from steering_core.engine.sampling import Request, sample
from steering_core.engine.steering import Steering
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import InterventionError
from steering_core.interventions.change import Change, Condition, Intervention
from steering_core.interventions.declarations import OPERATIONS
from steering_core.interventions.spans import located
from steering_core.interventions.where import Schedule, Where
from steering_core.models import Model

TOKENS = (5, 17, 40, 99, 120, 7, 33, 2)
WIDTH, LAYERS = 32, 4


def direction(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32)


def streams(model: Model, rows: list[Intervention], prompt_length: int = len(TOKENS)) -> tuple[np.ndarray, np.ndarray]:
    """Every block's output (L, B, T, D) and the logits (B, T, V) of TOKENS under each row's intervention."""
    steering = Steering(rows, [prompt_length] * len(rows))
    edits = steering.edits(0, len(TOKENS))
    seen: dict[int, mx.array] = {}

    def look(layer: int):  # noqa: ANN202
        def edit(h: mx.array) -> mx.array:
            seen[layer] = edits[layer](h) if layer in edits else h
            return seen[layer]

        return edit

    with model.taps.applied({layer: look(layer) for layer in range(LAYERS)}):
        logits = model.network(mx.array([TOKENS] * len(rows)), cache=model.new_cache())
    return np.stack([np.array(seen[layer]) for layer in range(LAYERS)]), np.array(logits)


def one(change: Change) -> Intervention:
    return Intervention((change,))


wheres = st.one_of(
    st.builds(Where, st.sampled_from(["all", "prompt", "generation"])),
    st.builds(lambda p: Where("all", tuple(p)), st.lists(st.integers(0, len(TOKENS) - 1), min_size=1, max_size=3)),
)
seeds = st.integers(0, 50)
some_layers = st.integers(0, LAYERS - 1)
light = settings(max_examples=20, deadline=None)


@light
@given(some_layers, seeds, wheres)
def test_zero_is_bit_identical(tiny: Model, layer: int, seed: int, where: Where) -> None:
    plain, logits = streams(tiny, [Intervention()])
    for change in (Change(layer, direction(seed), 0.0, where=where), Change(layer, np.zeros(WIDTH, np.float32))):
        found, found_logits = streams(tiny, [one(change)])
        np.testing.assert_array_equal(found, plain)
        np.testing.assert_array_equal(found_logits, logits)


@light
@given(some_layers, seeds, st.floats(-4, 4), wheres)
def test_alpha_is_linear_at_the_steered_layer(tiny: Model, layer: int, seed: int, alpha: float, where: Where) -> None:
    plain, _ = streams(tiny, [Intervention()])
    once, _ = streams(tiny, [one(Change(layer, direction(seed), 1.0, where=where))])
    found, _ = streams(tiny, [one(Change(layer, direction(seed), alpha, where=where))])
    np.testing.assert_allclose(found[layer] - plain[layer], alpha * (once[layer] - plain[layer]), atol=2e-5)


@light
@given(some_layers, seeds, st.integers(0, len(TOKENS) - 1), st.sampled_from(sorted(OPERATIONS)))
def test_causality(tiny: Model, layer: int, seed: int, position: int, operation: str) -> None:
    """Positions before the steered one, and layers below, are unchanged; the steered one is not."""
    plain, logits = streams(tiny, [Intervention()])
    change = Change(layer, direction(seed), 3.0, operation, Where("all", (position,)))
    found, found_logits = streams(tiny, [one(change)])
    np.testing.assert_array_equal(found[:layer], plain[:layer])
    np.testing.assert_array_equal(found[:, :, :position], plain[:, :, :position])
    np.testing.assert_array_equal(found_logits[:, :position], logits[:, :position])
    np.testing.assert_array_equal(found[layer, :, position + 1 :], plain[layer, :, position + 1 :])
    assert np.abs(found[layer, 0, position] - plain[layer, 0, position]).max() > 1e-3


@light
@given(some_layers, seeds, st.floats(0.1, 4))
def test_adding_and_taking_away_restores(tiny: Model, layer: int, seed: int, alpha: float) -> None:
    plain, logits = streams(tiny, [Intervention()])
    there, back = (Change(layer, direction(seed), sign * alpha) for sign in (1, -1))
    found, found_logits = streams(tiny, [Intervention((there, back))])
    np.testing.assert_array_equal(found, plain)  # the deltas cancel before they touch the stream
    np.testing.assert_array_equal(found_logits, logits)
    turned = Intervention((there, Change(layer, direction(99), 0.0, "rotate"), back))  # apart, so that both are applied
    found, found_logits = streams(tiny, [turned])
    np.testing.assert_allclose(found_logits, logits, atol=1e-3)


@light
@given(some_layers, seeds)
def test_ablating_leaves_no_component(tiny: Model, layer: int, seed: int) -> None:
    unit = direction(seed) / np.linalg.norm(direction(seed))
    plain, _ = streams(tiny, [Intervention()])
    found, _ = streams(tiny, [one(Change(layer, direction(seed), 1.0, "ablate"))])
    np.testing.assert_allclose(found[layer] @ unit, 0, atol=1e-5)
    across = plain[layer] - (plain[layer] @ unit)[..., None] * unit
    np.testing.assert_allclose(found[layer], across, atol=1e-5)
    half, _ = streams(tiny, [one(Change(layer, direction(seed), 0.5, "ablate"))])
    np.testing.assert_allclose(half[layer] @ unit, 0.5 * (plain[layer] @ unit), atol=1e-5)


@light
@given(some_layers, seeds, st.floats(-20, 20))
def test_clamping_sets_the_component(tiny: Model, layer: int, seed: int, value: float) -> None:
    unit = direction(seed) / np.linalg.norm(direction(seed))
    found, _ = streams(tiny, [one(Change(layer, direction(seed), value, "clamp"))])
    np.testing.assert_allclose(found[layer] @ unit, value, atol=1e-4)


@light
@given(some_layers, seeds, st.floats(-180, 180))
def test_rotating_keeps_the_norm_and_turns_by_degrees(tiny: Model, layer: int, seed: int, degrees: float) -> None:
    unit = direction(seed) / np.linalg.norm(direction(seed))
    plain, _ = streams(tiny, [Intervention()])
    found, _ = streams(tiny, [one(Change(layer, direction(seed), degrees, "rotate"))])
    norms = np.linalg.norm(plain[layer], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(found[layer], axis=-1), norms, rtol=1e-5)
    before, after = (np.degrees(np.arccos(np.clip(h[layer] @ unit / norms, -1, 1))) for h in (plain, found))
    np.testing.assert_allclose(after, np.clip(before - degrees, 0, 180), atol=0.1)


def test_replacing_patches_positions(tiny: Model) -> None:
    change = Change(2, direction(1), 2.0, "replace", Where("all", (3, -1)))
    plain, _ = streams(tiny, [Intervention()])
    found, _ = streams(tiny, [one(change)])
    np.testing.assert_array_equal(found[2, 0, 3], 2 * direction(1))
    np.testing.assert_array_equal(found[2, 0, -1], 2 * direction(1))
    np.testing.assert_array_equal(found[2, 0, [0, 1, 2, 4, 5, 6]], plain[2, 0, [0, 1, 2, 4, 5, 6]])


def test_many_changes_act_in_order_and_rows_do_not_mix(tiny: Model) -> None:
    rows = [
        Intervention((Change(1, direction(1), 2.0, "clamp"), Change(1, direction(2), 1.5), Change(3, direction(3)))),
        Intervention((Change(1, direction(2), 1.5), Change(1, direction(1), 2.0, "clamp"))),
        Intervention(),
        Intervention((Change(0, direction(4), 1.0, where=Where("prompt")), Change(0, direction(5), -1.0))),
    ]
    together, logits = streams(tiny, rows, prompt_length=5)
    for i, row in enumerate(rows):
        alone, alone_logits = streams(tiny, [row], prompt_length=5)
        np.testing.assert_allclose(together[:, i], alone[:, 0], atol=1e-5)
        np.testing.assert_allclose(logits[i], alone_logits[0], atol=1e-4)
    unit = direction(1) / np.linalg.norm(direction(1))
    assert np.abs(together[1, 1] @ unit - 2).max() < 1e-4 < np.abs(together[1, 0] @ unit - 2).max()


# -- where ----------------------------------------------------------------------------------------------------------


def acts(where: Where, prompt_length: int = 5) -> list[float]:
    return where.gate(np.arange(8), prompt_length).round(4).tolist()


def test_phases_positions_and_schedules() -> None:
    assert acts(Where("all")) == [1] * 8
    assert acts(Where("prompt")) == [1] * 5 + [0] * 3
    assert acts(Where("generation")) == [0] * 4 + [1] * 4  # from the prompt's last token on
    assert acts(Where("all", (0, -2, 6))) == [1, 0, 0, 1, 0, 0, 1, 0]
    assert acts(Where("prompt", (0, 6))) == [1] + [0] * 7
    assert acts(Where("generation", schedule=Schedule("first", 2))) == [0, 0, 0, 0, 1, 1, 0, 0]
    assert acts(Where("all", schedule=Schedule("decay", 0.5))) == [1, 1, 1, 1, 1, 0.5, 0.25, 0.125]


@given(
    st.sampled_from(["all", "prompt", "generation"]),
    st.none() | st.lists(st.integers(-6, 12), min_size=1).map(tuple),
    st.sampled_from([Schedule(), Schedule("first", 3), Schedule("decay", 0.5)]),
    st.integers(6, 9),
)
def test_first_and_settled_bound_what_the_gate_does(
    phase: str, positions: tuple[int, ...] | None, schedule: Schedule, prompt_length: int
) -> None:
    where = Where(phase, positions, schedule=schedule)
    gate = where.gate(np.arange(40), prompt_length)
    first, settled = where.first(prompt_length), where.settled(prompt_length)
    assert not gate[: int(min(first, 40))].any()
    if settled < 40:
        assert len(set(gate[int(settled) :])) == 1


def test_spans_become_the_positions_of_their_tokens(tiny: Model) -> None:
    tokens = tuple(tiny.tokenizer.encode("the sun and the rain"))
    found = located(one(Change(1, direction(1), where=Where(span="the "))), tokens, tiny.text)
    assert found.changes[0].where.positions == (0, 1, 2, 3, 12, 13, 14, 15)  # one token a byte
    with pytest.raises(InterventionError, match="'snow' is not in the prompt 'the sun and the rain'"):
        list(sample(tiny, [Request(tokens, one(Change(1, direction(1), where=Where(span="snow"))))], 2, 0, Work()))


def test_a_character_of_several_tokens_is_a_span_of_all_of_them(tiny: Model) -> None:
    for text, span, positions in (
        ("a 🦙 b", "🦙", range(2, 6)),
        ("x 你好", "你好", range(2, 8)),
        ("你好", "好", range(3, 6)),
    ):
        tokens = tiny.tokenizer.encode(text)
        assert len(tokens) == len(text.encode())  # one token a byte
        found = located(one(Change(1, direction(1), where=Where(span=span))), tokens, tiny.text)
        assert found.changes[0].where.positions == tuple(positions)


def test_a_change_in_decoding_is_what_it_is_in_a_full_pass(tiny: Model) -> None:
    """Schedules, positions, conditions and every operation: cached steps equal one pass over everything."""
    threshold = float(
        np.median(streams(tiny, [Intervention()])[0][1, 0] @ (direction(7) / np.linalg.norm(direction(7))))
    )
    rows = [
        one(Change(1, direction(i), 2.0, operation, where))
        for i, operation in enumerate(OPERATIONS)
        for where in (
            Where("generation", schedule=Schedule("first", 2)),
            Where("all", schedule=Schedule("decay", 0.5)),
            Where("all", (1, 5, 6)),
        )
    ]
    for layer in (1, 2):
        rows.append(one(Change(2, direction(3), 4.0, condition=Condition(layer, direction(7), threshold))))
        rows.append(
            one(Change(2, direction(3), 1.0, "clamp", condition=Condition(layer, direction(7), threshold, False)))
        )
    _, whole = streams(tiny, rows, prompt_length=4)
    batch = read(tiny, [TOKENS[:4]] * len(rows), rows, Work())
    tokens = batch.last
    for step in range(4):
        edits = batch.steering.edits(batch.lengths - 1 + step, 1)
        with tiny.taps.applied(edits):
            logits = np.array(tiny.network(tokens[:, None], cache=batch.cache))[:, -1]
        np.testing.assert_allclose(logits, whole[:, 3 + step], atol=2e-4)
        tokens = mx.array([TOKENS[4 + step]] * len(rows))


def test_a_condition_acts_where_the_projection_passes_its_threshold(tiny: Model) -> None:
    plain, _ = streams(tiny, [Intervention()])
    unit = direction(7) / np.linalg.norm(direction(7))
    seen = plain[0, 0] @ unit  # (T,)
    threshold = float(np.median(seen))
    for above in (True, False):
        change = Change(2, direction(3), 4.0, condition=Condition(0, direction(7), threshold, above))
        found, _ = streams(tiny, [one(change)])
        first_two = slice(0, 2)  # later tokens also read the changed ones, at later layers alone
        changed = np.abs(found[2, 0] - plain[2, 0]).max(axis=-1) > 1e-3
        expected = seen > threshold if above else seen < threshold
        np.testing.assert_array_equal(changed[first_two], expected[first_two])
        np.testing.assert_array_equal(changed, expected)


def test_settled_edits_are_made_once(tiny: Model) -> None:
    steering = Steering([one(Change(1, direction(1), where=Where("generation"))), Intervention()], [4, 6])
    assert steering.edits([3, 5], 1) is steering.edits([4, 6], 1)
    decaying = Steering([one(Change(1, direction(1), where=Where("all", schedule=Schedule("decay", 0.5))))], [4])
    assert decaying.edits(4, 1) is not decaying.edits(5, 1)


# -- precision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_stream_keeps_its_dtype_and_norms_do_not_overflow(dtype: mx.Dtype, operation: str) -> None:
    stream = (300 * mx.random.normal((1, 3, 4096), key=mx.random.key(0))).astype(dtype)  # squares overflow float16
    big = np.random.default_rng(0).standard_normal(4096).astype(np.float32)
    (edit,) = Steering([one(Change(0, big, 20.0, operation))], [3]).edits(0, 3).values()
    found = edit(stream)
    assert found.dtype == dtype
    assert np.isfinite(np.array(found.astype(mx.float32))).all()


def test_a_condition_must_come_before_its_change() -> None:
    change = Change(1, direction(1), condition=Condition(2, direction(2), 0.0))
    with pytest.raises(InterventionError, match="layer 1 cannot depend on layer 2"):
        change.check(LAYERS, WIDTH)
