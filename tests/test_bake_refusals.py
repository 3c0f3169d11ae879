"""What baking refuses, expressions that weights cannot hold and folders it must not touch, and what a kill leaves."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from steering_core.baking.bake import bake
from steering_core.baking.bakeable import bakeable, nearest
from steering_core.foundation.errors import NotBakeable, OutputError
from steering_core.interventions.parsing import parse
from steering_core.models import Model
from steering_core.vectors.resolve import resolved
from steering_core.vectors.vector import Vector
from tests.baked import ADDED, keep_vectors


@pytest.mark.parametrize(
    ("given", "reason", "near"),
    [
        ("2*push", "the phase @generation, which is meant where none is named", "2*push @all"),
        ("2*push @prompt", "the phase @prompt", "2*push @all"),
        ("2*push @all @decay(0.9)", "the schedule of", "2*push @all"),
        ("2*push @last(2)", "the positions of", "2*push @all"),
        ('push @span("x")', "the positions of", "push @all"),
        ("2*push @all @when(pull > 1)", "the condition @when(pull > 1)", "2*push @all"),
        ("clamp(push, 20%) @all", "the operation clamp", "!push @all; 20%*push @all"),
        ("rotate(push, 20) @all", "the operation rotate", "30%*push @all"),
        ("replace(push) @all @layers(1)", "the operation replace", "30%*push @all @layers(1)"),
        ("!push[1..2] @all", "a direction of its own at each layer", "!push/2 @all"),
        ("!push; 3*pull @all", "the phase @generation", "!push @all; 3*pull @all"),
    ],
)
def test_what_weights_cannot_hold_is_refused_by_name_with_the_nearest(given: str, reason: str, near: str) -> None:
    def vector(name: str) -> Vector:
        layer = int(name.rpartition("/")[2]) if "/" in name else 1
        return Vector("k", "m", None, "made", layer, 5.0, direction=np.ones(4, np.float32))

    expression = parse(given)
    with pytest.raises(NotBakeable) as refused:
        bakeable(expression, resolved(expression, vector))
    assert reason in str(refused.value)
    assert repr(near) in str(refused.value)
    assert str(nearest(expression)) == near
    assert bakeable(parse(near), resolved(near, vector))


def test_what_adds_up_over_layers_and_what_an_adapter_cannot_add_is_refused(tiny: Model, tmp_path: Path) -> None:
    store = tmp_path / "store"
    keep_vectors(tiny, store)
    to = {"out": tmp_path / "out", "store": store}
    with pytest.raises(NotBakeable, match="adds up from one to"):
        bake(tiny.name, "ablate(pull, 0.5) @all @layers(1,2)", **to)
    with pytest.raises(NotBakeable, match="changes nothing"):
        bake(tiny.name, "0*push @all", **to)
    with pytest.raises(NotBakeable, match=r"bake a folder \(without --adapter, adapter=\)"):
        bake(tiny.name, ADDED, adapter=True, **to)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_and_the_models_own_are_left_alone(tiny: Model, tmp_path: Path) -> None:
    store = tmp_path / "store"
    keep_vectors(tiny, store)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    for out in (tmp_path / "full", tmp_path / "full" / "thesis.txt", tiny.folder, tiny.folder / "steered"):
        with pytest.raises(OutputError, match=r"name (a|another) folder"):
            bake(tiny.name, ADDED, out, store=store)
    assert [file.name for file in (tmp_path / "full").iterdir()] == ["thesis.txt"]


KILLED = """
import os, signal, sys
from steering_core.baking import bake, folder
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
setattr(bake if sys.argv[1] == "card" else folder, sys.argv[1], die)
bake.bake(sys.argv[2], "2*push @all", sys.argv[3], store=sys.argv[4])
"""


@pytest.mark.parametrize("at", ["write_weights", "write_config", "card"])
def test_killed_half_way_leaves_nothing_that_opens(at: str, tiny: Model, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "place" / "out"
    keep_vectors(tiny, store)
    ended = subprocess.run([sys.executable, "-c", KILLED, at, tiny.name, str(out), str(store)], timeout=300)
    assert ended.returncode == -signal.SIGKILL
    assert not out.exists()
    (left,) = out.parent.iterdir()
    assert left.name.startswith(".")
    if at != "card":  # all that is missing there is the README and the name
        assert not (left / "config.json").exists()
    bake(tiny.name, ADDED, out, store=store)
    assert [found.name for found in out.parent.iterdir()] == ["out"]
    assert (out / "README.md").exists()
