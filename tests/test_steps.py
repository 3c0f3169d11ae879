"""The steps of a run: progress says which of how many it is, in the order in which they really come."""

from pathlib import Path

from steering_core.concepts import Concept
from steering_core.pipeline.discover import run
from steering_core.pipeline.steps import numbered, steps
from steering_core.spec import Spec
from steering_core.spec_files import load_spec
from steering_core.store import Store
from tests import quick

Told = list[tuple[str, int, int]]


def test_a_step_that_comes_again_is_the_next_of_its_name_and_another_cell_begins_anew() -> None:
    told: Told = []
    notify = numbered(lambda *said: told.append(said), ["draw", "score", "draw", "judge"])
    for what, done in (("draw", 1), ("draw", 2), ("other", 2), ("draw", 1), ("draw", 2), ("judge", 2), ("score", 2)):
        notify(what, done, 2)
    assert [what for what, _, _ in told] == [
        *("1 of 4: draw", "1 of 4: draw", "other"),
        *("3 of 4: draw", "3 of 4: draw", "4 of 4: judge", "2 of 4: score"),
    ]
    assert told[0][1:] == (1, 2)


def test_what_is_skipped_is_no_step() -> None:
    spec = Spec.model_validate({"models": ["a"], "concepts": ["b"], "scores": {"side_effects": "none"}})
    assert "measure side effects" not in steps(spec)
    assert "train vectors" not in steps(spec)
    items_alone = spec.model_copy(update={"scores": spec.scores.model_copy(update={"metrics": ("preference",)})})
    assert not any("neutral" in step for step in steps(items_alone))
    asked = {"vectors": {"methods": ["preference"]}, "scores": {"capabilities": "all"}}
    more = steps(Spec.model_validate({"models": ["a"], "concepts": ["b"], **asked}))
    assert {"train vectors", "measure side effects", "measure capabilities"} <= set(more)


def test_a_real_run_takes_its_steps_in_this_order(tiny_folder: Path, concept: Concept, tmp_path: Path) -> None:
    spec = load_spec(quick.spec_file(tmp_path, tiny_folder, concept))
    plain: Told = []
    told: Told = []
    count = numbered(lambda *said: told.append(said), steps(spec))

    def notify(what: str, done: int, total: int) -> None:
        plain.append((what, done, total))
        count(what, done, total)

    run(spec, Store(tmp_path / "store"), notify)
    assert {what for what, _, _ in plain} == set(steps(spec))
    places = [int(what.split()[0]) for what, _, _ in told]
    assert places == sorted(places)
    assert max(places) == len(steps(spec))
