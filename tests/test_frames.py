"""What notebooks ask for as frames beside a run's results: the library's vectors."""

import json
from pathlib import Path

import numpy as np
import pytest

import steering_core as steer
from steering_core.cli import vectors as vector_verbs
from steering_core.foundation.errors import StoreError, VectorError, VectorNotFound
from steering_core.models import Model
from tests.explorer import copied
from tests.verbs import typed


@pytest.fixture(scope="module")
def place(agree_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(copied(agree_run, tmp_path_factory.mktemp("frames")).root)


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ([], {}),
        (["--controls"], {"controls": True}),
        (["agree"], {"name": "agree"}),
        (["agree/mean_difference/1"], {"name": "agree/mean_difference/1"}),
    ],
)
def test_the_library_is_listed_as_by_the_command(place: Path, words: list[str], given: dict[str, str]) -> None:
    found = steer.list_vectors(store=place, **given)  # type: ignore[arg-type]
    printed = typed(vector_verbs.app, "list", *words, "--store", str(place), "--format", "json")
    assert json.loads(json.dumps(list(found), default=str)) == printed
    assert len(found.pandas()) == len(found.polars()) == len(found) > 0
    assert found.pandas()["norm"].dtype == "float64"


def test_the_library_of_one_model_is_that_of_its_name_its_key_and_the_model(tiny: Model, tmp_path: Path) -> None:
    steer.save_vector(tiny, steer.Vector.from_numpy(tiny, np.ones(32), 1, residual_norm=1.0), "mine", tmp_path)
    for model in (tiny, tiny.name, tiny.identity.model_id, None):
        (row,) = steer.list_vectors(model=model, store=tmp_path)
        assert (row["name"], row["layer"], row["method"]) == ("mine", 1, "given")
    with pytest.raises(VectorError, match="the store has no model 'nobody': there are "):
        steer.list_vectors(model="nobody", store=tmp_path)
    with pytest.raises(VectorNotFound, match="did you mean 'mine'"):
        steer.list_vectors("mime", store=tmp_path)
    with pytest.raises(StoreError, match="there is no store at"):
        steer.list_vectors(store=tmp_path / "none")
