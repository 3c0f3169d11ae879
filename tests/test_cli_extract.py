"""`steer extract`: any site and position of a concept's pairs or of one's own prompts, once."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from steering_core.backend.mlx import mx
from steering_core.cli import extract
from steering_core.foundation.errors import LayerNotFound, PositionUnknown, PromptError, SiteNotFound, StoreError
from steering_core.models import Model
from steering_core.store import Store


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.txt"
    file.write_text("Tell me about tea.\n\n  What is a glacier?\n", encoding="utf-8")
    return file


def run(folder: Path, what: object, store: Path, *options: str) -> dict[str, Any]:
    done = CliRunner().invoke(
        extract.app, [str(folder), str(what), "--store", str(store), "--format", "json", *options]
    )
    if done.exception:
        raise done.exception
    (row,) = json.loads(done.stdout)
    return dict(row)


def test_prompts_of_a_file_are_stored_once(tiny: Model, tiny_folder: Path, prompts: Path, tmp_path: Path) -> None:
    options = ("--layers", "1,3", "--site", "mlp_out", "--raw")
    first = run(tiny_folder, prompts, tmp_path / "store", *options)
    assert (first["prompts"], first["computed"], first["reused"]) == (2, 2, 0)
    again = run(tiny_folder, prompts, tmp_path / "store", *options)
    assert (again["computed"], again["reused"], again["forward_passes"]) == (0, 2, 0)
    rows = Store(tmp_path / "store").rows(
        "SELECT text, layer, activation FROM raw.activations JOIN raw.prompts USING (prompt_id) ORDER BY text, layer"
    )
    assert [(row["text"], row["layer"]) for row in rows] == [
        (text, layer) for text in ("Tell me about tea.", "What is a glacier?") for layer in (1, 3)
    ]
    tokens = mx.array([list(tiny.tokenizer.encode("Tell me about tea."))])
    np.testing.assert_allclose(rows[0]["activation"], mlp_output(tiny, 1, tokens)[-1], rtol=1e-4, atol=1e-5)


def mlp_output(model: Model, layer: int, tokens: mx.array) -> np.ndarray:
    """What a block's MLP returns, (T, D), from the difference that it makes to the stream."""
    inner = model.network.model
    h = inner.embed_tokens(tokens)
    for block in inner.layers[:layer]:
        h = block(h, "causal", None)
    block = inner.layers[layer]
    h = h + block.self_attn(block.input_layernorm(h), "causal", None)
    return np.array(block.mlp(block.post_attention_layernorm(h))[0])


def test_every_token_is_stored_only_when_somebody_agrees(tiny_folder: Path, prompts: Path, tmp_path: Path) -> None:
    options = ("--layers", "0", "--position", "all", "--raw")
    with pytest.raises(StoreError, match=r"2 prompts of 36 tokens take 0 MB .* add --yes"):
        run(tiny_folder, prompts, tmp_path / "store", *options)
    assert run(tiny_folder, prompts, tmp_path / "store", *options, "--yes")["computed"] == 2
    (row,) = Store(tmp_path / "store").rows("SELECT count(*) AS n, max(token) AS last FROM raw.activations")
    assert (row["n"], row["last"]) == (36, 17)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (("--layers", "one"), LayerNotFound),
        (("--layers", "9"), LayerNotFound),
        (("--position", "somewhere"), PositionUnknown),
        (("--site", "somewhere"), SiteNotFound),
    ],
)
def test_a_place_that_is_not_there_is_refused(
    tiny_folder: Path, prompts: Path, tmp_path: Path, options: tuple[str, ...], error: type[Exception]
) -> None:
    with pytest.raises(error):
        run(tiny_folder, prompts, tmp_path / "store", *options)
    prompts.write_text(" \n")
    with pytest.raises(PromptError, match="holds no prompts"):
        run(tiny_folder, prompts, tmp_path / "store")
