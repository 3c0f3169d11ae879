"""A vector out of the library by its name or itself: in Python as on the command line."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import steering_core as steer
from steering_core.cli import vectors
from steering_core.foundation.errors import StoreError, VectorAmbiguous, VectorNotFound
from steering_core.models import Model


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
