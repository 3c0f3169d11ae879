"""What is said of a recommendation: a plain sentence, then the numbers, whatever the row holds or lacks."""

from steering_core.reports.verdict_words import plain_verdict, verdict_in_numbers, verdict_in_words
from steering_core.store import Store
from tests.reported import a_recommendation


def test_a_verdict_begins_with_a_plain_sentence() -> None:
    row = {
        "concept": "sentiment", "verdict": "works", "method": "mean_difference", "layers": [21], "alpha": 2.557,
        "dose": 0.26, "effect": 0.695, "effect_low": 0.521, "effect_high": 0.869, "odd_effect": 0.676, "n": 24,
        "null_effects": [0.642, 0.62] + 37 * [0.1], "reason": "39 searches … (p = 0.025)", "perplexity_ratio": 1.272,
        "n_missing": 0,
    }  # fmt: skip
    assert plain_verdict(row) == (
        "sentiment works at layer 21 with strength 26 %: each token of answers that show it becomes 2 times as likely, "
        "next to answers that do not; none of 39 vectors made by chance did as much."
    )
    assert verdict_in_words(row).plain == (
        f"{plain_verdict(row)} In numbers: mean_difference, alpha 2.56 (dose 0.26, or 26 %) moves the propensity of 24 "
        "held-out test items by +0.695 nats per token [0.521, 0.869]; 39 searches … (p = 0.025). Its test "
        "texts are 1.27 times as perplexing to the untouched model."
    )
    own = row | {"method": "given", "called": "mine"}
    assert plain_verdict(own).startswith("sentiment works by mine at layer 21 with strength 26 %: ")
    assert verdict_in_numbers(own).startswith("In numbers: mine, alpha 2.56 (dose")
    assert verdict_in_numbers(own | {"called": "given"}).startswith("In numbers: given, alpha 2.56 (dose")
    away = {"dose": -0.034, "effect": -0.405, "odd_effect": -0.4, "null_effects": [0.5, 0.1], "layers": [18, 15]}
    assert plain_verdict(row | away) == (
        "sentiment works at layers 15 and 18 together with strength -3.4 %: each token of answers that do not show it "
        "becomes 1.5 times as likely, next to answers that do; 1 of 2 vectors made by chance did as much."
    )
    assert "becomes over 1,000 times as likely" in plain_verdict(row | {"effect": 2000.0})
    assert plain_verdict(row | {"costs": ["arithmetic -12 points"]}).startswith(
        "sentiment works at layer 21 with strength 26 %, at a cost: "
    )
    for verdict, said in {
        "weak": "sentiment is weak at layer 21 with strength 26 %: each token of answers that show it becomes 2 times "
        "as likely, next to answers that do not, but something speaks against relying on it.",
        "no better than random": "sentiment is no better than random at layer 21 with strength 26 %: chance may have "
        "done all that was seen.",
        "too few to tell": "sentiment: too few to tell whether a vector steers it.",
    }.items():
        assert plain_verdict(row | {"verdict": verdict}) == said


def test_a_verdict_is_said_whatever_a_row_lacks(reported: Store) -> None:
    (row,) = reported.rows("SELECT * FROM recommendations")
    for verdict in ("works", "weak", "no better than random", "too few to tell", "of another program", None):
        for column, value in row.items():
            without: list[object] = [None, [], [None]] if isinstance(value, list) else [None]
            for lacking in without:
                changed = {**row, "verdict": verdict, column: lacking}
                assert plain_verdict(changed).endswith(".")
                assert verdict_in_numbers(changed).endswith(".")
    assert "[" not in verdict_in_numbers({**row, "effect_high": None, "dose_high": None, "reason": "so"})


def test_a_verdict_tells_what_was_measured_from_what_is_expected(reported: Store) -> None:
    """A few test texts may be beyond a bound up to which the damage on validation lets expect it to hold."""
    (row,) = reported.rows("SELECT * FROM recommendations")
    said = verdict_in_words(
        row | {"perplexity_ratio": 2.23, "dose": 0.336, "safe_dose": 0.38, "dose_low": 0.3, "dose_high": 0.5}
    ).plain
    assert "Its test texts are 2.23 times as perplexing" in said
    assert "within the spec's max_perplexity_ratio up to a dose of 0.38 [0.30, 0.50], which is 38 %." in said
    assert "is safe" not in said


def test_a_ratio_of_few_texts_far_from_the_expected_one_is_explained(reported: Store) -> None:
    row = a_recommendation(reported)
    far = verdict_in_words({**row, "perplexity_ratio": 1.72, "expected_ratio": 1.13}).plain
    assert "1.72 times as perplexing to the untouched model. By its damage 1.13 times is to be expected" in far
    assert (
        "times is to be expected"
        not in verdict_in_words({**row, "perplexity_ratio": 1.2, "expected_ratio": 1.13}).plain
    )
