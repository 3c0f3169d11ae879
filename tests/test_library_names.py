"""Names in the library: none hides a concept's vectors, and a vector is removed by its name or itself."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import steering_core as steer
from steering_core.cli import vectors
from steering_core.concepts import Concept
from steering_core.foundation.errors import StoreError, VectorAmbiguous, VectorError, VectorNotFound
from steering_core.models import Model
from steering_core.store import Store
from steering_core.vectors import saving


def saved(tiny: Model, name: str, layer: int, store: Path) -> steer.Vector:
    vector = steer.Vector.from_numpy(tiny, np.eye(32)[layer], layer, residual_norm=10.0)
    return steer.save_vector(tiny, vector, name, store)


def test_a_vector_is_removed_by_its_name_and_comes_back_when_it_is_saved(tiny: Model, tmp_path: Path) -> None:
    mine = saved(tiny, "mine", 1, tmp_path)
    assert [v.vector_id for v in steer.remove_vector(tiny, "mine", tmp_path)] == [mine.vector_id]
    with pytest.raises(VectorNotFound, match="has no vector 'mine'"):
        steer.find_vector(tiny, "mine", tmp_path)
    with pytest.raises(VectorNotFound, match="has no vector 'mine'"):
        steer.remove_vector(tiny, "mine", tmp_path)
    assert steer.save_vector(tiny, mine, "mine", tmp_path).vector_id == mine.vector_id
    assert steer.find_vector(tiny, "mine", tmp_path).vector_id == mine.vector_id


def test_a_vector_is_removed_by_itself_alone(tiny: Model, tmp_path: Path) -> None:
    first, second = (saved(tiny, "both", layer, tmp_path) for layer in (1, 2))
    steer.remove_vector(tiny, first, tmp_path)
    assert steer.find_vector(tiny, "both", tmp_path).vector_id == second.vector_id


def test_several_are_removed_only_where_that_is_said(tiny: Model, tmp_path: Path) -> None:
    for layer in (1, 2):
        saved(tiny, "both", layer, tmp_path)
    with pytest.raises(VectorAmbiguous, match=r"'both' is 2 vectors: give --all \(in Python every=True\)"):
        steer.remove_vector(tiny, "both", tmp_path)
    refused = CliRunner().invoke(vectors.app, ["rm", "both", "--store", str(tmp_path)])
    assert isinstance(refused.exception, VectorAmbiguous)
    assert len(steer.find_vectors(tiny, "both", tmp_path)) == 2
    assert len(steer.remove_vector(tiny, "both", tmp_path, every=True)) == 2
    with pytest.raises(VectorNotFound):
        steer.find_vectors(tiny, "both", tmp_path)


def test_without_a_store_nothing_is_made(tiny: Model, tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        steer.remove_vector(tiny, "mine", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_no_name_hides_the_vectors_that_were_derived_for_a_concept(
    tiny: Model, tiny_folder: Path, concept: Concept, tmp_path: Path
) -> None:
    """Nothing was recommended for it yet: its name means what was derived."""
    loud = tmp_path / "loud.yaml"
    loud.write_text(yaml.safe_dump(concept.model_dump(mode="json", exclude_none=True)))
    store = str(tmp_path / "store")
    made = CliRunner().invoke(vectors.app, ["derive", str(tiny_folder), str(loud), "--layers", "1", "--store", store])
    assert made.exit_code == 0, made.output
    before = steer.find_vector(tiny, "loud", store)
    mine = saved(tiny, "mine", 1, Path(store))
    says = "'loud' means the vectors of that concept on .*, which a vector of that name would hide.* such as loud-2"
    refused = CliRunner().invoke(vectors.app, ["name", "mine", "loud", "--store", store])
    assert isinstance(refused.exception, VectorError)
    with pytest.raises(VectorError, match=says):
        saving.rename(Store(store), [mine], "loud")
    with pytest.raises(VectorError, match=says):
        saved(tiny, "loud", 2, Path(store))
    assert steer.find_vector(tiny, "loud", store).vector_id == before.vector_id
    assert steer.find_vector(tiny, "mine", store).vector_id == mine.vector_id
    saving.rename(Store(store), [before], "loud")  # its own concept's name is no other's
    assert steer.find_vector(tiny, "loud", store).vector_id == before.vector_id
