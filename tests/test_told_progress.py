"""What a measurement in Python says on standard error while it goes on, and that it can be silenced."""

from pathlib import Path

import pytest

import steering_core as steer
from steering_core.concepts import Concept
from steering_core.models import Model
from tests import quick


def test_a_run_names_its_steps_unless_it_is_to_be_silent(
    tmp_path: Path, tiny_folder: Path, concept: Concept, capfd: pytest.CaptureFixture[str]
) -> None:
    spec = quick.spec_file(tmp_path, tiny_folder, concept)
    steer.run(spec, tmp_path / "loud")
    out, told = capfd.readouterr()
    steps = [line for line in told.splitlines() if " of " in line]
    assert steps[0].startswith("1 of 10: extract activations: ")
    places = [int(line.partition(" of ")[0]) for line in steps]
    assert places == sorted(places)
    assert not out
    steer.run(spec, tmp_path / "quiet", progress=False)
    assert "extract activations" not in capfd.readouterr().err


@pytest.mark.parametrize("progress", [True, False])
def test_sweeps_name_their_steps_alike(
    tmp_path: Path, tiny: Model, tiny_folder: Path, concept: Concept, capfd: pytest.CaptureFixture[str], progress: bool
) -> None:
    spec, store = quick.spec_file(tmp_path, tiny_folder, concept), tmp_path / "store"
    steer.layer_sweep(spec, [1], store=store, progress=progress)
    assert ("sweep layers: " in capfd.readouterr().err) == progress
    vector = steer.Vector.from_numpy(tiny, range(1, 33), layer=1, residual_norm=10.0)
    steer.dose_sweep(tiny, vector, concept, [0.2], split="test", controls=0, store=store, progress=progress)
    assert ("measure doses: " in capfd.readouterr().err) == progress
