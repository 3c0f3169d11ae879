"""Expressions: read, printed back, refused with a caret under the fault, and resolved to numbers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.foundation.errors import InterventionError, LayerNotFound, VectorNotFound
from steering_core.interventions.declarations import OPERATIONS
from steering_core.interventions.expression import Amount, Between, Clause, Expression, Term, VectorName, When
from steering_core.interventions.parsing import parse
from steering_core.interventions.where import CONSTANT, PHASES, Schedule
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector

# -- text to clauses and back ---------------------------------------------------------------------------------------

finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
amounts = st.builds(Amount, finite, st.booleans())
words = st.from_regex(r"\A[A-Za-z][A-Za-z0-9_.\-]{0,8}(/[A-Za-z0-9][A-Za-z0-9_]{0,5}){0,2}\Z")
layers = st.lists(st.integers(0, 40), max_size=4, unique=True).map(tuple)
names = st.builds(VectorName, words, layers)
plain_names = st.builds(VectorName, words)
vectors = names | st.builds(Between, plain_names, plain_names, finite)
terms = st.lists(st.builds(Term, vectors, amounts), min_size=1, max_size=3).map(tuple)
schedules = st.sampled_from([CONSTANT, Schedule("first", 20.0), Schedule("decay", 0.9)])
places = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"positions": st.lists(st.integers(-9, 99), min_size=1, max_size=3).map(tuple)}),
    st.fixed_dictionaries({"last": st.integers(1, 9)}),
    st.fixed_dictionaries({"span": st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)}),
)


@st.composite
def clauses(draw: st.DrawFn) -> Clause:
    operation = draw(st.sampled_from(sorted(OPERATIONS)))
    declared, amount = OPERATIONS[operation], None
    if operation != "add" and (not declared.optional or draw(st.booleans())):
        amount = draw(amounts) if declared.percent else Amount(draw(finite))
    when = draw(st.none() | st.builds(When, plain_names, amounts, st.booleans()))
    return Clause(
        draw(terms), operation, amount, draw(st.sampled_from([None, *PHASES])), **draw(places),
        schedule=draw(schedules), layers=draw(layers), when=when,
    )  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(clauses(), min_size=1, max_size=3).map(lambda c: Expression(tuple(c))))
def test_what_is_printed_reads_back_as_the_same(expression: Expression) -> None:
    assert parse(str(expression)) == expression


@pytest.mark.parametrize(
    "text",
    [
        "0.6*formality + 0.4*concise @generation",
        "!refusal",
        "30%*formality/mean_difference/14",
        "clamp(formality, 4); rotate(french, 20)",
        "formality[12..16,20] @first(20)",
        "2*between(formal, casual, 0.3) - 1.5*x-y @layers(3,5)",
        'formality @span("the \\"weather\\"") @decay(0.9) @when(anger > 2)',
        "ablate(0.5*a - b, 50%) @prompt",
        "4*a1b2c3d4e5f600112233 @last(3)",
        "replace(x, 2) @positions(1, -1)",
        "a @first(1000000)",
    ],
)
def test_canonical_text_stays_as_it_is(text: str) -> None:
    assert str(parse(text)) == text


@pytest.mark.parametrize(
    ("text", "caret", "words"),
    [
        ("0.6*", 4, "expected a vector's name"),
        ("0.6*formality +", 15, "a vector's name"),
        ("0.6 formality", 4, "joined to its vector by a star"),
        ("formality @generatio", 11, "generation, response, thinking"),
        ("!", 1, "a vector's name"),
        ("clamp(formality)", 0, "needs a second part"),
        ("rotate(a, 30%)", 0, "takes no percentage: give its angle in degrees"),
        ("a @first(0)", 9, "does nothing"),
        ("a @decay(2)", 9, "1 at most"),
        ("a @last(0)", 8, "give 1 or more"),
        ('a @last(2) @span("x")', 17, "give one"),
        ("a @prompt @all", 11, "phase is given twice"),
        ("a @layers(1) @layers(2)", 13, "layers is given twice"),
        ("a[5..3]", 2, "run backwards"),
        ("a ++ b", 3, "a vector's name"),
        ("", 0, "a vector's name"),
        ("a;", 2, "a vector's name"),
        ("émile", 0, "a vector's name"),
        ("a @layers(0..9999999999)", 13, "9,999 is the largest"),
        ("a[" + "9" * 5000 + "]", 2, "too large"),
        ("a @last(9999999999)", 8, "1,000,000 is the largest"),
        ("a @last(-3)", 8, "give 1 or more"),
        ("a @positions(1, -9999999999)", 16, "too large"),
        ("1e39*a", 0, "3.4e+38 is the largest"),
        ("rotate(a, 1e300)", 10, "too large"),
        ("between(a, b, 1e400)", 14, "too large"),
        (r'a @span("\x")', 8, "as JSON writes it"),
        (r'a @span("\ud800")', 8, "as JSON writes it"),
    ],
)
def test_a_fault_has_a_caret_under_it(text: str, caret: int, words: str) -> None:
    with pytest.raises(InterventionError) as fault:
        parse(text)
    what, shown, under = str(fault.value).split("\n")
    assert words in what
    assert shown == "  " + text
    assert under == "  " + " " * caret + "^"


def test_numbers_may_begin_with_a_point_or_with_noughts() -> None:
    assert str(parse(".5*a - .25%*b @decay(.9) @last(" + "0" * 5000 + "7)")) == "0.5*a - 0.25%*b @last(7) @decay(0.9)"


def test_the_pages_examples_are_read() -> None:
    page = (Path(__file__).parents[1] / "docs" / "engine.md").read_text()
    examples = page.split("```\n0.6*")[1].split("\n```")[0].splitlines()
    assert len(examples) == 12
    for text in ["0.6*" + examples[0], *examples[1:]]:
        assert str(parse(text)) == text


# -- names to numbers -----------------------------------------------------------------------------------------------


def vector(name: str, layer: int, direction: tuple[float, ...], residual_norm: float = 10.0) -> Vector:
    return Vector(name, "m", None, "made", layer, residual_norm, direction=np.array(direction, np.float32))


LIBRARY = {
    "formal": vector("formal", 2, (3, 4)),
    "casual": vector("casual", 2, (0, 2)),
    "french": vector("french", 1, (1, 0)),
    "french/0": vector("french0", 0, (5, 0)),
    "french/1": vector("french", 1, (1, 0)),
}


def find(name: str) -> Vector:
    if name not in LIBRARY:
        raise VectorNotFound(f"no vector {name!r}")
    return LIBRARY[name]


def changes(text: str) -> list[tuple[int, str, float, list[float]]]:
    return [
        (c.layer, c.operation, round(c.amount, 6), c.direction.tolist())
        for c in resolved(text, find, n_layers=4).changes
    ]


def test_blends_keep_each_vector_at_its_layer() -> None:
    assert changes("0.5*formal - 2*french") == [(2, "add", 0.5, [3, 4]), (1, "add", -2, [1, 0])]


def test_a_dose_is_a_percentage_of_the_residual_norm() -> None:
    assert changes("30%*formal") == [(2, "add", 0.6, [3, 4])]  # 0.3 * 10 / 5
    assert changes("clamp(formal, 20%)") == [(2, "clamp", 2, [3, 4])]
    assert changes("ablate(formal, 50%)") == [(2, "ablate", 0.5, [3, 4])]


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("30*formal", "alpha 30 is a dose of 15, .* did you mean 30%, which is a dose of 0.3"),
        ("casual - 6*formal", "alpha -6 is a dose of -3, .* write it as a dose: -300%"),
        ("1000*formal", "alpha 1000 is a dose of 500, .* A dose of 10 is the most"),
    ],
)
def test_an_alpha_that_lost_its_percent_sign_is_asked_about(text: str, asked: str) -> None:
    with pytest.raises(InterventionError, match=asked):
        changes(text)


def test_an_alpha_of_a_plausible_dose_passes_and_so_does_one_that_is_said_as_a_dose() -> None:
    assert changes("4*formal") == [(2, "add", 4, [3, 4])]  # a dose of 2
    assert changes("300%*formal") == [(2, "add", 6, [3, 4])]
    assert changes("6.25*formal") == [(2, "add", 6.25, [3, 4])]  # nobody writes such a percentage: it was calculated
    assert changes("rotate(30*formal, 20)")[0][:3] == (2, "rotate", 20)  # a direction has no dose


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("30% formal", "30%*name"),
        ("30%formal", "30%*name"),
        ("30 formal", "30*name"),
        ("casual + 1e1 formal", "1e1*name"),
    ],
)
def test_a_forgotten_star_is_shown_where_it_belongs(text: str, like: str) -> None:
    with pytest.raises(InterventionError) as caught:
        parse(text)
    assert f"as in {like}\n" in str(caught.value)


def test_a_layer_before_a_fault_is_no_strength() -> None:
    with pytest.raises(InterventionError, match="expected"):
        parse("formal[12")


def test_layers_of_vectors_and_vectors_at_layers() -> None:
    assert changes("french[0,1]") == [(0, "add", 1, [5, 0]), (1, "add", 1, [1, 0])]
    assert changes("!french @layers(0..2)") == [(i, "ablate", 1, [1, 0]) for i in range(3)]


def test_interpolation_and_blends_in_operations() -> None:
    assert changes("2*between(formal, casual, 0.5)") == [(2, "add", 2, [1.5, 3])]
    assert changes("rotate(formal - 0.5*casual, 20)") == [(2, "rotate", 20, [3, 3])]


def test_without_a_phase_a_change_acts_in_generation_or_where_it_says() -> None:
    phases = [
        resolved(text, find, 4).changes[0].where.phase
        for text in ("formal", "formal @all", "formal @last(2)", 'formal @span("x")')
    ]
    assert phases == ["generation", "all", "all", "all"]


def test_conditions_are_resolved_too() -> None:
    condition = resolved("formal @when(french < 25%)", find, 4).changes[0].condition
    assert condition is not None
    assert (condition.layer, condition.threshold, condition.above) == (1, 2.5, False)


def test_what_cannot_be_resolved_is_refused() -> None:
    with pytest.raises(VectorNotFound, match=r"no vector 'frnch'\n  formal \+ 2\*frnch\n {13}\^"):
        resolved("formal + 2*frnch", find, 4)
    with pytest.raises(LayerNotFound, match=r"layer 9 .* 0\.\.3"):
        resolved("formal @layers(9)", find, 4)
    with pytest.raises(InterventionError, match="between layers 2 and 1"):
        resolved("between(formal, french, 0.5)", find, 4)
    with pytest.raises(InterventionError, match="one direction a layer"):
        resolved("rotate(formal + french, 3)", find, 4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "text", ["clamp(3e38*formal, 2)", "between(formal, casual, 1e38)", "clamp(3e38*formal + 3e38*formal, 2)"]
)
def test_what_is_beyond_float32_is_refused_without_a_warning(text: str) -> None:
    with pytest.raises(InterventionError, match="beyond float32's range"):
        resolved(text, find, 4).check(4, 2)
