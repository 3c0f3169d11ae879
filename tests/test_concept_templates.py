"""Templates: slots expand to pairs, the same ones for the same seed."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.concepts.formats.read import read_concept
from steering_core.concepts.templates import SidedValues, Template, Wording, expanded, expanded_pairs
from steering_core.foundation.errors import ConceptError

WORDS = st.lists(st.text("abcdefgh", min_size=1, max_size=6), min_size=1, max_size=6, unique=True).map(tuple)


def moods(count: int = 128, seed: int = 0) -> Template:
    return Template(
        template=Wording(prompt="How is {thing}?", positive="{mood}, the {thing}.", negative="{mood}, that {thing}."),
        slots={
            "thing": ("tea", "train", "town"),
            "mood": SidedValues(positive=("Lovely", "Fine"), negative=("Awful", "Bad", "Poor")),
        },
        count=count,
        seed=seed,
    )


def test_every_combination_of_slots_becomes_a_pair() -> None:
    pairs = expanded_pairs(moods())
    assert len(pairs) == 9  # 3 things x the longer of the two lists of moods
    assert {pair.prompt for pair in pairs} == {"How is tea?", "How is train?", "How is town?"}
    first = pairs[0]
    assert (first.positive, first.negative) == ("Lovely, the tea.", "Awful, that tea.")
    assert {(p.positive.split(",")[0], p.negative.split(",")[0]) for p in pairs} == {
        ("Lovely", "Awful"),
        ("Fine", "Bad"),
        ("Lovely", "Poor"),
    }


@settings(max_examples=50, deadline=None)
@given(WORDS, WORDS, st.integers(1, 40), st.integers(0, 5))
def test_draws_are_different_pairs_fixed_by_the_seed(a: tuple[str, ...], b: tuple[str, ...], n: int, seed: int) -> None:
    wording = Wording(positive="{a} is {b}", negative="{a} is not {b}")
    template = Template(template=wording, slots={"a": a, "b": b}, count=n, seed=seed)
    pairs = expanded_pairs(template)
    assert pairs == expanded_pairs(template)
    assert len({pair.pair_id for pair in pairs}) == len(pairs) == min(n, len(a) * len(b))


def test_another_seed_draws_others() -> None:
    assert expanded_pairs(moods(4, seed=0)) != expanded_pairs(moods(4, seed=1))


def test_a_template_file_is_a_concept(tmp_path: Path) -> None:
    path = tmp_path / "moods.yaml"
    path.write_text(yaml.safe_dump(moods().model_dump(mode="json")))
    concept = read_concept(path)
    assert concept == expanded(moods(), "moods")
    assert concept.name == "moods"


@pytest.mark.parametrize(
    ("wording", "slots", "message"),
    [
        ({"positive": "{a} {b}", "negative": "x"}, {"a": ["1"]}, "uses {b} but"),
        ({"positive": "{a}", "negative": "x"}, {"a": ["1"], "c": ["2"]}, "c, which the wording never uses"),
        ({"positive": "{a", "negative": "x"}, {"a": ["1"]}, "expected '}'"),
        ({"positive": "{a.b}", "negative": "x"}, {"a": ["1"]}, "{a.b} is no slot"),
        ({"prompt": "{a}", "positive": "x", "negative": "y"}, {"a": {"positive": ["1"], "negative": ["2"]}}, "by side"),
    ],
)
def test_a_wording_that_does_not_fit_its_slots_is_refused(
    tmp_path: Path, wording: dict[str, str], slots: dict[str, object], message: str
) -> None:
    path = tmp_path / "t.yaml"
    path.write_text(yaml.safe_dump({"template": wording, "slots": slots}))
    with pytest.raises(ConceptError) as raised:
        read_concept(path)
    assert message in str(raised.value)


def test_too_many_combinations_are_refused() -> None:
    slots = {name: tuple(map(str, range(200))) for name in "abcd"}
    template = Template(template=Wording(positive="{a}{b}{c}{d}", negative="x"), slots=slots)
    with pytest.raises(ConceptError, match="1,600,000,000 combinations"):
        expanded_pairs(template)
