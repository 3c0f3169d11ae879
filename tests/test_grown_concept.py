"""A concept that grew keeps its name: SQL tells the contents apart, and a run's own query shows the latest alone."""

from pathlib import Path

import pytest

from steering_core.concepts import Concept, Pair
from steering_core.pipeline.discover import run
from steering_core.reports.terminal import print_report
from steering_core.spec_files import load_spec
from steering_core.store import Store
from tests import quick


def test_the_latest_content_of_a_name_is_found(
    tiny_folder: Path, concept: Concept, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    grown = concept.model_copy(update={"pairs": (*concept.pairs, Pair(positive="More!", negative="less."))})
    for one, condition in ((concept, "concept = 'loud'"), (grown, f"concept_id = '{grown.concept_id}'")):
        print_report(store, run(load_spec(quick.spec_file(tmp_path, tiny_folder, one)), store))
        assert f"WHERE {condition} AND" in " ".join(capsys.readouterr().out.split())
    (latest,) = store.rows("SELECT arg_max(concept_id, last_run_at) AS concept_id FROM concepts WHERE name = 'loud'")
    assert latest["concept_id"] == grown.concept_id != concept.concept_id
    assert len(store.rows("SELECT DISTINCT concept_id FROM leaderboard WHERE concept = 'loud'")) == 2
