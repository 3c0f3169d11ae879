"""A LoRA adapter in mlx-lm's form (`--adapter-path`): directions taken out, as low-rank changes of the same matrices.

Taking k directions out of a matrix W is W + L (R W) with L (D, k): a LoRA of rank k without an error of its own, which
leaves quantised matrices as they are.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from steering_core.backend.mlx import mx, nn
from steering_core.baking.bakeable import Bakeable
from steering_core.baking.forms import matrix_of, tied, writers_of
from steering_core.baking.writers import WriterMatrix, embedding_of, removed_from_rows
from steering_core.foundation.errors import NotBakeable
from steering_core.models.mlx_lm import architecture

CONFIG, WEIGHTS = "adapter_config.json", "adapters.safetensors"


def adapter_weights(network: nn.Module, wanted: Bakeable, embeddings: bool) -> dict[str, mx.array]:
    """The adapter's parameters by name, float32.

    Raises NotBakeable for vectors that are added, for a bias along a direction, and for embeddings that are the head
    as well: a low-rank change of matrices holds none of these.
    """
    if wanted.additions:
        raise NotBakeable(
            "an adapter changes what matrices multiply by, and a vector that is added at every token is a bias: bake "
            "a folder (without --adapter, adapter=), or bake what is taken out (!NAME @all) alone"
        )
    rank = len(wanted.removals)
    weights: dict[str, mx.array] = {}
    for writer, left, right in writers_of(network, wanted):
        _check_bias(writer, left, right)
        matrix = matrix_of(writer.module)  # (…, D, in)
        read = _padded(right, rank, 0) @ matrix  # (…, k, in)
        back = mx.broadcast_to(_padded(left, rank, 1), (*matrix.shape[:-2], len(left), rank))  # (…, D, k)
        experts = matrix.ndim > 2
        weights[f"{writer.name}.lora_a"] = read if experts else read.T
        weights[f"{writer.name}.lora_b"] = back if experts else back.T
    if embeddings:
        name = embedding_of(network)
        if tied(network):
            raise NotBakeable(
                f"the embeddings of this {architecture(network)} are its head as well, which would lose the direction "
                "too: leave that out (--embeddings, embeddings=), or bake a folder, which gives the head a copy of its "
                "own"
            )
        left, right = (side.astype(np.float32) for side in removed_from_rows(wanted.removals))
        weights[f"{name}.lora_a"] = matrix_of(dict(network.named_modules())[name]) @ mx.array(right.T)
        weights[f"{name}.lora_b"] = mx.array(left.T)
    return weights


def write_adapter(
    folder: Path, network: nn.Module, weights: Mapping[str, mx.array], metadata: Mapping[str, str]
) -> None:
    """Write the adapter's weights, and at last its configuration: mlx-lm does not open it without."""
    prefixes = {id(module): name for name, module in network.named_modules()}
    blocks = [f"{prefixes[id(block)]}." for block in network.layers]
    keys = {_key(name.removesuffix(".lora_a"), blocks) for name in weights if name.endswith(".lora_a")}
    rank = min(min(value.shape[-2:]) for value in weights.values())
    mx.save_safetensors(str(folder / WEIGHTS), dict(weights), metadata=dict(metadata))
    config = {
        "fine_tune_type": "lora",
        "num_layers": len(blocks),
        "lora_parameters": {"rank": rank, "scale": 1.0, "dropout": 0.0, "keys": sorted(keys)},
    }
    temporary = folder / f".{CONFIG}"
    temporary.write_text(json.dumps(config, indent=1), encoding="utf-8")
    temporary.replace(folder / CONFIG)


def _key(name: str, blocks: list[str]) -> str:
    """A module's name as mlx-lm's `keys` have it: without its block."""
    return next((name.removeprefix(block) for block in blocks if name.startswith(block)), name)


def _padded(side: np.ndarray, rank: int, axis: int) -> mx.array:
    """One side of a change with zeros up to `rank`: all of an adapter's layers have one rank."""
    missing = [(0, 0), (0, 0)]
    missing[axis] = (0, rank - side.shape[axis])
    return mx.array(np.pad(side, missing).astype(np.float32))


def _check_bias(writer: WriterMatrix, left: np.ndarray, right: np.ndarray) -> None:
    bias = writer.module.get("bias")
    if bias is None:
        return
    values = np.array(bias.astype(mx.float32)).reshape(-1, bias.shape[-1])  # (1 or experts, D)
    if np.abs(values @ right.T @ left.T).max() > 1e-6:
        raise NotBakeable(
            f"{writer.name} has a bias along the direction, which an adapter does not reach: bake a folder "
            "(without --adapter, adapter=)"
        )
