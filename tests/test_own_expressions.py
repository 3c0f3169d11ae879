"""A vector that nobody derived from a concept is measured beside a spec's grid, as the explorer says."""

from pathlib import Path

import steering_core as steer
from steering_core.concepts import Concept
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.spec_files import load_spec
from steering_core.store import Store
from tests import quick


def test_a_saved_contrast_is_measured_by_the_expressions_of_a_spec(
    tiny: Model, tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    spec = load_spec(quick.spec_file(tmp_path, tiny_folder, concept))
    store = Store(tmp_path / "store")
    typed = steer.contrast(tiny, "I love this", "I hate this", layer=2)
    typed = steer.save_vector(tiny, typed, "fond", store.root)
    grid = spec.generations.model_copy(update={"expressions": ("30%*fond",)})
    run(spec.model_copy(update={"generations": grid}), store)
    rows = store.rows("SELECT effect FROM leaderboard WHERE vector_id = ? AND control IS NULL", [typed.vector_id])
    assert rows
    assert all(row["effect"] is not None for row in rows)
