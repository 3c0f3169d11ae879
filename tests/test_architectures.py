"""Every architecture of mlx-lm: its blocks are tapped, every layer can be steered, and batches change no numbers.

`architectures.json` holds one tiny configuration for each, after those of mlx-lm's own tests (MIT), in the proportions
of real models: fewer key-value heads than heads, heads that are not width / heads wide, windows shorter than prompts,
wherever the architecture knows them. Not built here:
olmo (needs a package of its own), phi3small (crashes MLX's CPU build, untouched), bitnet and muse_spark (Metal kernels
alone), prism_hadamard_qwen35 (packed weights alone). plamo3 has a wide window, because mlx-lm
itself reads one token more of it in a prompt than in decoding.
"""

# ruff: noqa: F401, F811  (fixtures of tests/networks.py)

import re
from pathlib import Path

import mlx_lm.models
import numpy as np
import pytest

from steering_core.backend.mlx import mx
from steering_core.engine.forward import advance, read
from steering_core.foundation.counting import Work
from steering_core.foundation.errors import ModelUnsupported
from steering_core.interventions.change import Change, Intervention, Where
from steering_core.models.abilities import GROWING, MIXED, Abilities
from steering_core.models.mlx_lm import architecture
from steering_core.models.taps import Taps
from tests.networks import CONFIGS, REFUSED, Unsaved, built
from tests.tiny import random_network

ROOT = Path(__file__).parent.parent
LONG = tuple(range(1, 13))  # beyond the sliding windows of 8
LENGTHS = (12, 4, 12, 7, 9, 12, 5, 10)
SIZES = (1, 2, 3, 4, 5, 8)  # rows of a batch: as many as there are heads or key-value heads of some kind, and others


def logits(model: Unsaved, tokens: tuple[int, ...]) -> np.ndarray:
    return np.array(model.network(mx.array([tokens]), cache=model.new_cache()).astype(mx.float32))[0]


def continued(
    model: Unsaved, prompts: list[tuple[int, ...]], rows: list[Intervention], able: Abilities, steps: int = 4
) -> np.ndarray:
    """Logits (B, steps, V) after each prompt and after the fixed tokens that follow it, through the engine."""
    model.able = able
    work = Work()
    batch = read(model, prompts, rows, work)
    found = [advance(model, batch, batch.last, 0, work)]
    for step in range(1, steps):
        found.append(advance(model, batch, mx.array([step + row for row in range(len(rows))]), step, work))
    return np.stack([np.array(f.astype(mx.float32)) for f in found], axis=1)


def push(width: int, layer: int, phase: str = "all") -> Intervention:
    direction = np.random.default_rng(layer).standard_normal(width).astype(np.float32)
    return Intervention((Change(layer, direction, 2.0, "add", Where(phase)),))


def agrees(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max() <= 1e-3 * max(1.0, np.abs(b).max()))


def test_taps_reach_every_layer_and_leave_no_trace(built: Unsaved) -> None:
    network = built.network
    classes = [type(block) for block in network.layers]
    plain = logits(built, LONG)
    assert np.isfinite(plain).all()
    n_layers, width, _, _ = built.dimensions()
    assert n_layers == len(network.layers)
    rows = [Intervention(), *(push(width, layer) for layer in range(n_layers))]
    steered = continued(built, [LONG] * len(rows), rows, Abilities(mixed=False, grows=False), steps=1)[:, 0]
    assert agrees(steered[0], plain[-1])
    for layer, row in enumerate(steered[1:]):
        assert np.abs(row - plain[-1]).max() > 1e-4, f"layer {layer} cannot be steered"
    built.taps.remove()
    assert [type(block) for block in network.layers] == classes
    np.testing.assert_array_equal(logits(built, LONG), plain)


def test_a_rows_logits_do_not_depend_on_its_neighbours(built: Unsaved) -> None:
    """Alone, in a batch, in a stream that gains rows between blocks, and beside a prompt of another length."""
    n_layers, width, _, _ = built.dimensions()
    last = n_layers - 1
    kinds = [push(width, 0), push(width, last, "generation"), push(width, last // 2), Intervention()]
    rows = [kinds[i % len(kinds)] for i in range(len(LENGTHS))]
    prompts = [LONG, LONG, LONG[::-1], LONG]
    alone = Abilities(mixed=False, grows=False)
    apart = _apart(built, prompts, rows)
    assert agrees(continued(built, prompts, rows[:4], alone), apart)
    name = architecture(built.network)
    grown = _attempt(built, prompts, rows[:4], Abilities(mixed=False, grows=True), apart)
    told = f"{name} {'gains' if grown else 'does not gain'} rows between blocks"
    there = "it is in GROWING where it does (_MEASURED without _FIXED_ROWS of models/abilities.py)"
    assert grown == (name in GROWING), f"{told}; {there}"
    prompts = [LONG[:length] for length in LENGTHS]
    apart = _apart(built, prompts, rows)
    mixing = Abilities(mixed=True, grows=False)
    mixed = [n for n in SIZES if _attempt(built, prompts[:n], rows[:n], mixing, apart[:n])]
    told = f"{name} takes prompts of different lengths in batches of {mixed} rows, of {SIZES} that were tried"
    there = "it is in MIXED where all do (_MEASURED without _ONE_LENGTH of models/abilities.py)"
    assert (mixed == list(SIZES)) == (name in MIXED), f"{told}; {there}"


def _apart(model: Unsaved, prompts: list[tuple[int, ...]], rows: list[Intervention]) -> np.ndarray:
    """Each row by itself, as if at its place of a batch."""
    alone = Abilities(mixed=False, grows=False)
    return np.concatenate([_alone(model, p, r, i, alone) for i, (p, r) in enumerate(zip(prompts, rows, strict=False))])


def _alone(model: Unsaved, prompt: tuple[int, ...], row: Intervention, place: int, able: Abilities) -> np.ndarray:
    """The row by itself: at place `place` of a batch only so that it is continued with the same tokens."""
    work = Work()
    model.able = able
    batch = read(model, [prompt], [row], work)
    found = [advance(model, batch, batch.last, 0, work)]
    for step in range(1, 4):
        found.append(advance(model, batch, mx.array([step + place]), step, work))
    return np.stack([np.array(f.astype(mx.float32)) for f in found], axis=1)


def _attempt(
    model: Unsaved, prompts: list[tuple[int, ...]], rows: list[Intervention], able: Abilities, apart: np.ndarray
) -> bool:
    """Whether the batch works out under these abilities; mlx-lm fails in many ways where it does not."""
    try:
        return agrees(continued(model, prompts, rows, able), apart)
    except (ValueError, TypeError, AttributeError, ModelUnsupported):
        return False


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_be_steered_is_refused(name: str) -> None:
    """iquestloopcoder calls its blocks' parts itself; the others hand on several streams at once."""
    with pytest.raises(REFUSED[name], match=r"never called block 0, 1|one residual stream"):
        Unsaved(CONFIGS[name]).dimensions()


def test_the_pages_name_every_architecture_that_is_not_tested_and_count_the_others() -> None:
    files = Path(mlx_lm.models.__path__[0]).glob("*.py")
    modules = {path.stem for path in files if "class ModelArgs" in path.read_text()}
    page = (ROOT / "docs" / "engine.md").read_text().partition("## Architectures")[2]
    assert f"each of {len(modules & CONFIGS.keys())}." in page
    assert f"the {len(MIXED)} architectures" in page
    assert (
        f"({len(modules & CONFIGS.keys() - REFUSED.keys())} of\nmlx-lm's are steered"
        in (ROOT / "README.md").read_text()
    )
    untested = page.partition("Not tested: ")[2].partition(", which cannot")[0]
    assert set(re.findall(r"\w+", untested)) - {"and"} == modules - CONFIGS.keys()


def test_blocks_must_be_there_and_stand_at_one_layer_each() -> None:
    network = random_network(CONFIGS["llama"])
    network.model.layers[1] = network.model.layers[0]
    with pytest.raises(ModelUnsupported, match="several layers"):
        Taps(network)
    with pytest.raises(ModelUnsupported, match="shows no `layers`"):
        Taps(network.model.norm)
