"""What steering does to capability sets: planted losses are found, what is spared stays, and nothing is asked twice."""

import dataclasses
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from steering_core.candidates.cell import Cell
from steering_core.capabilities import CapabilitySet, Demand, Question, Task, load_set
from steering_core.cli.main import app
from steering_core.evaluation.costs import costs_of
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import CapabilityError, InterventionError, VectorNotFound
from steering_core.interventions.parsing import parse
from steering_core.models import Model, open_model
from steering_core.pipeline.discover import run
from steering_core.pipeline.rows import concept_row
from steering_core.reports.page import report_page
from steering_core.reports.verdict_words import verdict_in_words
from steering_core.scores.capabilities import choice_log_probabilities, measure_sets, tokens_of
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.saving import save
from steering_core.vectors.vector import Vector
from tests import capitals, toy

LETTERS = "bcdfghjklmnpqrstvwxz"
# After a small letter the toy favours small letters; more than 0.5 along v turns that round. Digits read nothing along
# v, so the shorter of two numbers stays the likelier one whatever is added.
SMALL = CapabilitySet(
    name="small",
    chat=False,
    questions=tuple(
        Question(prompt=f"{i}?", right=f"{a}{b}", wrong=(f"{a}{b.upper()}",))
        for i, (a, b) in enumerate(itertools.pairwise(LETTERS))
    ),
)
NUMBERS = CapabilitySet(
    name="numbers",
    chat=False,
    questions=tuple(
        Question(prompt=f"{i}?", right=f"{i % 10}", wrong=(f"{i % 10}0", f"{i % 10}11")) for i in range(30)
    ),
)
TASKS = CapabilitySet(
    name="tasks",
    max_tokens=4,
    tasks=tuple(
        Task(prompt=f"Say {i}.", checks=(Demand(id="keywords:letter_frequency", kwargs=kwargs),))
        for i in range(3)
        for kwargs in ({"letter": "#", "let_frequency": 99, "let_relation": "less than"},)
    ),
)


@pytest.fixture(scope="module")
def model(toy_folder: Path) -> Iterator[Model]:
    with open_model(str(toy_folder)) as opened:
        yield opened


def planted(model: Model) -> Vector:
    return Vector(
        "0" * 20,
        model.identity.model_id,
        toy.CONCEPT.concept_id,
        "planted",
        1,
        10.0,
        direction=np.float32(toy.axes()[1]),
    )


def steered(model: Model, alpha: float) -> Cell:
    return Cell.adding(model.identity.model_id, toy.CONCEPT.concept_id, "generation", [planted(model)], [alpha])


def by_set(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["set"]: row for row in rows}


def test_steering_ruins_the_planted_set_and_spares_the_other(model: Model, store: Store) -> None:
    n = len(SMALL.questions)
    rows = by_set(measure_sets(model, store, [steered(model, 2.0)], [SMALL, NUMBERS]).rows)
    assert (rows["small"]["unsteered"], rows["small"]["steered"], rows["small"]["change"]) == (1.0, 0.0, -1.0)
    assert (rows["small"]["lost"], rows["small"]["gained"], rows["small"]["n"]) == (n, 0, n)
    assert rows["small"]["ci_high"] == pytest.approx(-0.7226, abs=1e-4)
    assert rows["small"]["p_value"] == pytest.approx(2 * 0.5 * 0.5**n)
    assert (rows["numbers"]["unsteered"], rows["numbers"]["steered"], rows["numbers"]["change"]) == (1.0, 1.0, 0.0)
    assert rows["numbers"]["ci_low"] < 0 < rows["numbers"]["ci_high"]
    assert rows["numbers"]["chance"] == pytest.approx(1 / 3)
    assert costs_of(list(rows.values()), 0.05) == ["small -100 points [-100, -72]"]


def test_what_steers_the_other_way_or_too_little_loses_nothing(model: Model, store: Store) -> None:
    rows = measure_sets(model, store, [steered(model, -2.0), steered(model, 0.3)], [SMALL]).rows
    assert [row["change"] for row in rows] == [0.0, 0.0]
    assert costs_of(rows, 0.05) == []


def test_log_probabilities_are_the_closed_form(model: Model) -> None:
    question = Question(prompt="1?", right="cd", wrong=("cD", "C"))
    (found,) = choice_log_probabilities(model, question, False, [steered(model, 1.5)], Work())
    assert found == pytest.approx([log_probability(f"? {choice}", 1.5) for choice in question.choices], abs=1e-3)


def log_probability(text: str, along_v: float) -> float:
    """Of the tokens after the first two (a mark and a space), each after its predecessor."""
    tokens = toy.byte_tokenizer().encode(text)
    pairs = itertools.pairwise(tokens)
    return float(sum(toy.log_softmax(toy.logits_after(a, along_v))[b] for a, b in pairs))


def test_lettered_options_are_asked_both_ways_round(model: Model) -> None:
    question = Question(prompt="Which?\n(A) one\n(B) two", right="(A)", wrong=("(B)",))
    other = Question(prompt="Which?\n(A) two\n(B) one", right="(B)", wrong=("(A)",))
    found = [choice_log_probabilities(model, q, False, [steered(model, 1.0)], Work()) for q in (question, other)]
    assert np.allclose(found[0], found[1])


def test_nothing_is_asked_twice(model: Model, store: Store) -> None:
    first = measure_sets(model, store, [steered(model, 2.0)], [NUMBERS, TASKS])
    again = measure_sets(model, store, [steered(model, 2.0)], [NUMBERS, TASKS])
    assert (first.did.work.computed, again.did.work.computed, again.did.work.tokens) == (66, 0, 0)
    assert again.did.work.reused == 66
    assert again.rows == first.rows
    assert store.rows("SELECT count(*) AS n FROM raw.capabilities") == [{"n": 2}]
    renamed = NUMBERS.model_copy(update={"name": "digits"})
    of_another = dataclasses.replace(steered(model, 2.0), concept_id="c" * 20)
    third = measure_sets(model, store, [of_another], [renamed])
    assert third.did.work.computed == 0  # an answer belongs to no concept and to no set
    stronger = measure_sets(model, store, [steered(model, 3.0)], [NUMBERS])
    assert (stronger.did.work.computed, stronger.did.work.reused) == (30, 30)  # the unsteered ones are there


def test_a_text_is_kept_with_its_check(model: Model, store: Store) -> None:
    (row,) = measure_sets(model, store, [steered(model, 2.0)], [TASKS]).rows
    assert row["chance"] is None
    store.append("models", [dataclasses.asdict(model.identity)])
    rows = store.rows("SELECT answer, correct, log_probabilities FROM capability_answers ORDER BY answer_id")
    assert len(rows) == 6
    assert all(r["log_probabilities"] is None and r["correct"] == float(bool(r["answer"].strip())) for r in rows)


def test_an_answer_that_diverged_is_wrong(model: Model, store: Store) -> None:
    rows = by_set(measure_sets(model, store, [steered(model, 1e38)], [NUMBERS, TASKS]).rows)
    assert (rows["numbers"]["unsteered"], rows["numbers"]["steered"]) == (1.0, 0.0)
    assert rows["tasks"]["steered"] == 0.0


def test_the_forecast_is_never_below_the_cost(model: Model, store: Store) -> None:
    sets = [SMALL, NUMBERS, TASKS]
    done = measure_sets(model, store, [steered(model, 2.0)], sets)
    assert done.did.work.tokens <= tokens_of(model, sets, 1) <= 3 * done.did.work.tokens


# -- in a run, and by the command ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Spec, Store, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("costly")
    named = {one.name: folder / f"{one.name}.yaml" for one in (SMALL, NUMBERS)}
    for one in (SMALL, NUMBERS):
        named[one.name].write_text(yaml.safe_dump(one.model_dump(mode="json")))
    concept = folder / "capitals.yaml"
    concept.write_text(yaml.safe_dump(capitals.CONCEPT.model_dump(mode="json", exclude_none=True)))
    spec = Spec(
        models=(str(toy_folder),),
        concepts=(str(concept),),
        generations={"layers": (1,), "doses": (0.05, 0.1), "prompts": 4, "max_tokens": 8},
        scores={"max_perplexity_ratio": 3.0, "side_effects": "none", "capabilities": [str(p) for p in named.values()]},
    )
    store = Store(folder / "store")
    return spec, store, run(spec, store)


def test_what_works_says_at_what_cost(ran: tuple[Spec, Store, dict[str, Any]]) -> None:
    _, store, report = ran
    (row,) = report["recommendations"]
    assert row["costs"] == ["small -100 points [-100, -72]"]
    said = verdict_in_words(row).plain
    assert said.startswith("capitals works at layer 1 with strength ")
    assert ", at a cost: each token of answers that show it becomes " in said
    assert "It costs: small -100 points [-100, -72]." in said
    sql = "SELECT concept, set, change, verdict, recommendation_id FROM capabilities ORDER BY set"
    assert [tuple(r.values())[:4] for r in store.rows(sql)] == [
        ("capitals", "numbers", 0.0, "works"),
        ("capitals", "small", -1.0, "works"),
    ]
    assert {r["recommendation_id"] for r in store.rows(sql)} == {row["recommendation_id"]}
    page = report_page(store)
    assert "Capabilities" in page
    assert "It costs: small -100 points" in page


def test_a_second_run_asks_nothing(ran: tuple[Spec, Store, dict[str, Any]]) -> None:
    spec, store, report = ran
    again = run(spec, store)
    assert again["stages"]["scores"]["computed"] == 0
    assert again["recommendations"] == report["recommendations"]


def test_a_run_without_sets_has_no_costs_and_the_key_of_before(ran: tuple[Spec, Store, dict[str, Any]]) -> None:
    spec, store, _ = ran
    plain = spec.model_copy(update={"scores": spec.scores.model_copy(update={"capabilities": "none"})})
    (row,) = run(plain, store)["recommendations"]
    assert row["costs"] == []
    assert "cost" not in verdict_in_words(row).plain
    assert plain.key != spec.key
    stricter = plain.scores.model_copy(update={"max_drop": 0.5})
    assert plain.model_copy(update={"scores": stricter}).key == plain.key


def test_a_set_that_there_is_not_ends_a_run_before_it_begins(toy_folder: Path, store: Store) -> None:
    spec = Spec(models=(str(toy_folder),), concepts=("sentiment",), scores={"capabilities": ("arithmetics",)})
    with pytest.raises(CapabilityError, match="did you mean 'arithmetic'"):
        run(spec, store)
    assert store.rows("SELECT run_id FROM runs") == []


def test_the_verb_measures_a_recommended_vector_without_asking_again(
    ran: tuple[Spec, Store, dict[str, Any]], toy_folder: Path
) -> None:
    spec, store, _ = ran
    sets = [part for path in spec.scores.capabilities for part in ("--set", path)]
    said = ["capabilities", str(toy_folder), "--vector", "capitals", *sets, "--store", str(store.root)]
    done = CliRunner().invoke(app, said)
    assert done.exit_code == 0, done.output
    assert "0 answers asked" in " ".join(done.output.split())
    assert "small -100 points" in " ".join(done.output.split())
    rows = json.loads(CliRunner().invoke(app, [*said, "--format", "json"]).stdout)
    assert [(row["set"], row["change"]) for row in rows] == [("small", -1.0), ("numbers", 0.0)]


def test_the_verb_measures_a_named_vector(model: Model, toy_folder: Path, store: Store, tmp_path: Path) -> None:
    store.append("models", [dataclasses.asdict(model.identity)])
    store.append("concepts", [concept_row(toy.CONCEPT)])
    save(store, [planted(model).keyed()], "loud")
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL.model_dump(mode="json")))
    said = ["capabilities", str(toy_folder), "--set", str(path), "--store", str(store.root), "--format", "json"]
    (row,) = json.loads(CliRunner().invoke(app, [*said, "--steer", "2*loud"]).stdout)
    assert (row["change"], row["lost"]) == (-1.0, len(SMALL.questions))
    found = store.rows("SELECT concept, recommendation_id, change FROM capabilities")
    assert found == [{"concept": "capitals", "recommendation_id": None, "change": -1.0}]
    for more, error in (([], InterventionError), (["--vector", "quiet"], VectorNotFound)):
        assert isinstance(CliRunner().invoke(app, [*said, *more]).exception, error)


PAGE = (Path(__file__).parent.parent / "docs" / "capabilities.md").read_text()


@pytest.mark.parametrize("query", re.findall(r"```sql\n(.*?)```", PAGE, re.DOTALL))
def test_the_pages_sql_answers(ran: tuple[Spec, Store, dict[str, Any]], query: str) -> None:
    assert ran[1].query(query).num_rows > 0


def test_the_page_counts_the_sets_as_they_are_and_its_own_set_is_one() -> None:
    told = {name: int(n) for name, n in re.findall(r"^\| `([a-z-]+)` \| (\d+) \|", PAGE, re.MULTILINE)}
    assert told == {name: load_set(name).n for name in told}
    assert len(told) == 7
    (own,) = (block for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) if "questions" in block)
    assert CapabilitySet.model_validate(yaml.safe_load(own)).n == 2


def test_the_verb_lists_the_sets_that_there_are() -> None:
    done = CliRunner().invoke(app, ["capabilities", "--format", "json"])
    assert {"arithmetic", "facts"} <= {row["set"] for row in json.loads(done.stdout)}


def test_the_plan_counts_their_tokens(toy_folder: Path, tmp_path: Path) -> None:
    def planned(capabilities: str) -> int:
        spec = {"models": [str(toy_folder)], "concepts": ["sentiment"], "scores": {"capabilities": capabilities}}
        (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
        said = ["plan", str(tmp_path / "spec.yaml"), "--store", str(tmp_path / "store"), "--format", "json"]
        (row,) = json.loads(CliRunner().invoke(app, said).stdout)
        return int(row["capability_tokens"])

    assert planned("none") == 0
    assert planned("all") > 10_000


def test_expressions_are_measured_as_they_are(model: Model, store: Store) -> None:
    cell = dataclasses.replace(steered(model, 2.0), steering=parse(f"!{'0' * 20} @all"))
    (row,) = measure_sets(model, store, [cell], [SMALL]).rows
    assert (row["alpha"], row["intervention"]) == (None, f"!{'0' * 20} @all")
