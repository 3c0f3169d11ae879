"""Lint: each fault is planted once and found in its rows; sound data gives nothing."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steering_core.authoring.lint.check import lint
from steering_core.authoring.lint.finding import Finding, shown_rows
from steering_core.authoring.lint.items import matching_first
from steering_core.authoring.lint.shallow_probe import baseline_auc, probe_accuracy
from steering_core.authoring.lint.wording import alike, bag, surface, words
from steering_core.concepts import Concept, Item, Pair, available_concepts, load_concept
from steering_core.concepts.concept import Words
from steering_core.models import Model
from tests.concepts import CARD, gibberish, sound_concept


def with_pairs(change: object, rows: Sequence[int]) -> Concept:
    """The sound concept with some pairs changed by `change(pair, i)`."""
    pairs = [change(pair, i) if i in rows else pair for i, pair in enumerate(sound_concept().pairs)]  # type: ignore[operator]
    return sound_concept(pairs=pairs)


def only(concept: Concept, model: Model | None = None) -> Finding:
    (finding,) = lint(concept, model)
    return finding


def test_sound_data_gives_nothing(tiny: Model) -> None:
    assert lint(sound_concept()) == []


@pytest.mark.parametrize("name", sorted(available_concepts()))
def test_the_shipped_concepts_pass(name: str) -> None:
    assert [finding for finding in lint(load_concept(name)) if finding.level != "accepted"] == []


def test_sides_that_say_the_same_are_found() -> None:
    concept = with_pairs(lambda p, i: Pair(prompt=p.prompt, positive=p.negative.upper()[:-1], negative=p.negative), [7])
    finding = only(concept)
    assert (finding.check, finding.level, finding.rows) == ("same", "error", ("pair 8",))


@pytest.mark.parametrize("broken", ["caf\ufffd", "cafÃ©", "donâ€™t", "a\u200bb", "bell\x07"])
def test_wrongly_decoded_characters_are_found(broken: str) -> None:
    concept = with_pairs(
        lambda p, i: Pair(prompt=p.prompt, positive=f"{p.positive} {broken}", negative=p.negative), [3]
    )
    finding = only(concept)
    assert (finding.check, finding.rows) == ("encoding", ("pair 4 (positive)",))


@pytest.mark.parametrize("good", ["café", "naïve Ãrea", "l’été", "日本語"])
def test_letters_of_other_languages_are_not_broken(good: str) -> None:
    assert (
        lint(with_pairs(lambda p, i: Pair(prompt=p.prompt, positive=f"{p.positive} {good}", negative=p.negative), [3]))
        == []
    )


def test_longer_sides_are_found_with_the_worst_rows_first() -> None:
    def longer(pair: Pair, i: int) -> Pair:
        return Pair(
            prompt=pair.prompt, positive=f"{pair.positive} {gibberish(i + 7000, 4 + i % 2 * 8)}", negative=pair.negative
        )

    found = {f.check: f for f in lint(with_pairs(longer, range(64)))}
    assert "+" in found["lengths"].message
    assert found["lengths"].rows[0] == "pair 2"
    assert "surface" in found


def test_a_word_that_gives_a_side_away_is_found() -> None:
    concept = with_pairs(
        lambda p, i: Pair(prompt=p.prompt, positive=f"Verily {p.positive}", negative=p.negative), range(22)
    )
    finding = only(concept)
    assert finding.check == "giveaway"
    assert finding.message == "'verily' is on the positive side of 22 pairs and on the other of 0"
    assert len(finding.rows) == 22


def test_a_mark_that_gives_a_side_away_is_found_and_may_be_accepted() -> None:
    def marked(pair: Pair, i: int) -> Pair:
        return Pair(prompt=pair.prompt, positive=pair.positive[:-1] + "!", negative=pair.negative)

    concept = with_pairs(marked, range(64))
    assert {f.check for f in lint(concept)} == {"giveaway", "surface"}
    card = CARD.model_copy(update={"accepted": {"giveaway": "shouting is the concept", "surface": "likewise"}})
    accepted = lint(concept.model_copy(update={"card": card}))
    assert {(f.level, f.remedy) for f in accepted} == {
        ("accepted", "shouting is the concept"),
        ("accepted", "likewise"),
    }


def test_an_acceptance_that_is_stale_or_refused_is_itself_a_finding() -> None:
    card = CARD.model_copy(update={"accepted": {"lengths": "so be it", "leakage": "who cares"}})
    messages = [f.message for f in lint(sound_concept(card=card))]
    assert messages == ["the card accepts 'leakage'", "the card accepts 'lengths', which finds nothing"]


def test_near_duplicates_are_leakage_across_splits_and_waste_within_one() -> None:
    base = sound_concept()
    splits = [base.splits[pair.pair_id] for pair in base.pairs]
    train = [i for i, split in enumerate(splits) if split == "train"][:2]
    test = splits.index("test")
    copied = base.pairs[train[0]].positive.replace(".", " indeed.")

    def echo(pair: Pair, i: int) -> Pair:
        return Pair(prompt=pair.prompt, positive=copied, negative=pair.negative)

    leaked = only(with_pairs(echo, [test]))
    assert (leaked.check, leaked.level) == ("leakage", "error")
    assert {part.split(" (")[0] for part in leaked.rows[0].split(" ~ ")} == {f"pair {i + 1}" for i in (train[0], test)}
    twin = only(with_pairs(echo, [train[1]]))
    assert (twin.check, twin.level) == ("duplicates", "warning")
    assert twin.rows == (f"pair {train[0] + 1} ~ pair {train[1] + 1}",)
    train = [i for i, split in enumerate(splits) if split == "train"][:5]
    many = only(with_pairs(echo, train[1:]))
    assert len(many.rows) == 10  # couples of five rows
    n = len(base.pairs) + len(base.items) + len(base.prompts)
    assert many.message == f"4 rows nearly repeat another of their split (of {n} in all)"


def test_an_item_that_asks_what_a_pair_asks_is_leakage() -> None:
    base = sound_concept()
    items = [base.items[0].model_copy(update={"prompt": base.pairs[5].prompt}), *base.items[1:]]
    finding = only(sound_concept(items=items))
    assert finding.check == "leakage"
    assert "pair 6" in finding.rows[0]
    assert "item 1" in finding.rows[0]


def test_letter_bias_is_found() -> None:
    def items(share_a: int) -> list[Item]:
        return [
            Item(prompt=gibberish(i + 3000), matching=f"({a})", not_matching=f"({'BA'['AB'.index(a)]})")
            for i, a in enumerate("A" * share_a + "B" * (44 - share_a))
        ]

    assert [f.check for f in lint(sound_concept(items=items(22)))] == []
    found = next(f for f in lint(sound_concept(items=items(33))) if f.check == "letters")
    assert found.message == "'(A)' is the matching answer of 33 of 44 items"
    assert len(found.rows) == 33


def test_the_order_of_options_is_checked() -> None:
    first = Item(prompt="Do you prefer plums or pears?", matching="Plums for me.", not_matching="Pears for me.")
    assert matching_first(first) is True
    assert matching_first(Item(prompt=first.prompt, matching="Pears.", not_matching="Plums.")) is False
    assert matching_first(Item(prompt="Why?", matching="Plums.", not_matching="Pears.")) is None
    fruit = [gibberish(i + 8000, 2)[:-1].lower().split() for i in range(20)]
    items = [
        Item(
            prompt=f"{gibberish(i, 3)} {a} or {b}?",
            matching=f"{a}, {gibberish(i + 50, 3)}",
            not_matching=f"{b}, {gibberish(i + 90, 3)}",
        )
        for i, (a, b) in enumerate(fruit)
    ]
    found = [f for f in lint(sound_concept(items=[*items, *sound_concept().items[20:]])) if f.check == "order"]
    assert found[0].message == "the matching option is named first in 20 of 20 choice items"


def test_too_few_rows_and_a_thin_card_are_found() -> None:
    base = sound_concept()
    few = Concept(name="few", pairs=base.pairs[:20], items=base.items[:15])
    found = [(f.check, f.level) for f in lint(few)]
    assert found.count(("few", "error")) == 1  # items
    assert found.count(("few", "warning")) == 2  # pairs, prompts
    assert found.count(("card", "warning")) == 2  # card, instructions


def test_items_of_which_none_is_for_validation_are_found() -> None:
    items = tuple(item.model_copy(update={"split": "test"}) for item in sound_concept().items)
    found = only(sound_concept(items=items))
    assert (found.level, found.message) == ("error", "none of 44 held-out items is in the validation split")


def test_options_on_one_line_are_found() -> None:
    def items(between: str) -> list[Item]:
        asked = [f"{gibberish(i + 9, 4)}?\n(A) Yes{between}(B) No\nAnswer:" for i in range(40)]
        both = ("(A)", "(B)")
        return [Item(prompt=p, matching=both[i % 2], not_matching=both[1 - i % 2]) for i, p in enumerate(asked)]

    assert [f.message for f in lint(sound_concept(items=items(" "))) if f.check == "letters"] == [
        "40 items answered by letters are asked one way round only"
    ]
    assert [f for f in lint(sound_concept(items=items("\n"))) if f.check == "letters"] == []


def test_a_word_in_both_lists_is_found() -> None:
    lists = Words(positive=("fine", "Good"), negative=("good",))
    assert only(sound_concept(words=lists)).message == "good stand in both word lists"


def test_what_the_tokenizer_reads_is_checked(tiny: Model) -> None:
    long = " ".join(gibberish(i) for i in range(30))  # 512 tokens are the tiny model's context
    concept = sound_concept(chat=True, prompts=[*sound_concept().prompts, long])
    found = {f.check: f for f in lint(concept, tiny)}
    assert found["context"].rows == ("prompt 13",)
    wide = Concept(name="raw", pairs=[Pair(positive=f"é{i}" * 20, negative=f"e{i}" * 20) for i in range(20)])
    found = {f.check: f for f in lint(wide, tiny)}  # a letter with an accent is two of the tiny model's tokens
    assert "+" in found["tokens"].message
    assert "lengths" not in found


def test_likeness_ignores_a_stem_that_all_share() -> None:
    stem = "Is the following statement something that you would say yourself:"
    texts = [f"{stem} {gibberish(i, 4)}" for i in range(40)] + [f"{stem} {gibberish(3, 4)}"]
    assert [(i, j) for i, j, _ in alike(texts, 0.8)] == [(3, 40)]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=12))
def test_likeness_is_whole_for_equal_texts_and_takes_any_text(texts: list[str]) -> None:
    found = {(i, j) for i, j, _ in alike([*texts, *texts], 0.999)}
    assert all((i, i + len(texts)) in found for i in range(len(texts)))


@settings(max_examples=40, deadline=None)
@given(st.text())
def test_any_text_has_features(text: str) -> None:
    assert all(np.isfinite(value) for value in surface(text).values())
    assert bag(text).keys() >= set(words(text))


def test_probes_are_at_chance_on_noise_and_right_on_a_plain_sign() -> None:
    noise = [(pair.positive, pair.negative) for pair in sound_concept().pairs]
    assert 0.3 < probe_accuracy(noise, surface) < 0.7
    assert probe_accuracy([(a + "?", b) for a, b in noise], surface) == 1.0
    shouted = with_pairs(
        lambda p, i: Pair(prompt=p.prompt, positive=p.positive.upper(), negative=p.negative), range(64)
    )
    assert baseline_auc(shouted, "test") == 1.0
    assert 0.2 < baseline_auc(sound_concept(), "test", bag) < 0.8


def test_long_lists_of_rows_are_cut() -> None:
    assert shown_rows([str(i) for i in range(8)]) == "0, 1, 2, 3, 4, 5, … 2 more"
