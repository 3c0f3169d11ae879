"""Writers: the matrices of a network that write into its residual stream, found by name; `proof` finds missing ones."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steering_core.backend.mlx import mx, nn
from steering_core.baking.bakeable import Removal, low_rank
from steering_core.foundation.errors import NotBakeable
from steering_core.models.mlx_lm import architecture

_ATTENTION_WRITES = ("o_proj", "out_proj", "wo", "attn_out", "dense", "c_proj", "proj")
_MLP_WRITES = ("down_proj", "w2", "fc2", "fc_out", "ff_out", "dense_4h_to_h", "output_linear")
_NAMES = frozenset((*_ATTENTION_WRITES, *_MLP_WRITES))
_NORMS_BEHIND = (
    ("post_attention_layernorm", "post_feedforward_layernorm"),
    ("post_self_attn_layernorm", "post_mlp_layernorm"),
)
_ATTENTION = ("attn", "attention", "self_attn", "self_attention", "temporal_block")


@dataclass(frozen=True)
class WriterMatrix:
    """A matrix (out, in), or one for each expert, whose output the block adds to the stream.

    `name` is its parameters' prefix in the network. `gain` (D,) is what a norm after it multiplies each component of
    its output by, up to one common factor; None where its output is added as it is.
    """

    name: str
    layer: int
    module: nn.Module
    gain: np.ndarray | None

    def removed(self, removals: Sequence[Removal]) -> tuple[np.ndarray, np.ndarray]:
        """L (D, k), R (k, D): this writer's output y becomes y + L R y, so that what it adds lacks the directions.

        k is 0 where none of `removals` reaches its layer. Behind a norm the directions are those that the gain turns
        into them.
        """
        mine = [removal for removal in removals if self.layer <= removal.last_layer]
        if not mine:
            width = len(removals[0].unit)
            return np.zeros((width, 0)), np.zeros((0, width))
        return low_rank([self._seen(removal) for removal in mine], [removal.share for removal in mine])

    def _seen(self, removal: Removal) -> np.ndarray:
        if self.gain is None:
            return removal.unit
        if removal.share != 1:
            raise NotBakeable(
                f"{self.name} writes through a norm, which makes a share of {removal.share:g} another one: take out all"
            )
        turned = self.gain * removal.unit.astype(np.float64)
        return np.asarray(turned / np.linalg.norm(turned))


def writers(network: nn.Module, width: int) -> list[WriterMatrix]:
    """Every matrix of the blocks that writes into the stream. Raises NotBakeable for a block without one."""
    prefixes = {id(module): name for name, module in network.named_modules()}
    found = []
    for layer, block in enumerate(network.layers):
        norms = next((both for both in _NORMS_BEHIND if both[1] in block), None)
        here = [
            WriterMatrix(f"{prefixes[id(block)]}.{name}", layer, module, _gain(block, name, norms, width))
            for name, module in block.named_modules()
            if name.rpartition(".")[2] in _NAMES and "weight" in module and _outputs(module) == width
        ]
        if not here:
            raise NotBakeable(f"{architecture(network)}: no matrix of block {layer} is known to write into the stream")
        found += here
    return found


def _outputs(module: nn.Module) -> int:
    return int(module["weight"].shape[-2])


def _gain(block: nn.Module, name: str, norms: tuple[str, str] | None, width: int) -> np.ndarray | None:
    """What the norm after a writer multiplies each component by: its output for a vector of ones."""
    if norms is None:
        return None
    norm = block[norms[0] if name.split(".")[0] in _ATTENTION else norms[1]]
    return np.array(norm(mx.ones((1, width))).astype(mx.float32))[0].astype(np.float64)


@contextlib.contextmanager
def writing_less(
    network: nn.Module, width: int, removals: Sequence[Removal], embedding: str | None = None
) -> Iterator[None]:
    """Have every writer's output lack the directions inside the `with`: what the baked matrices are held against.

    `embedding` names a table of embeddings whose rows lack them too.
    """
    changed: list[tuple[nn.Module, type[nn.Module]]] = []

    def change(module: nn.Module, left: np.ndarray, right: np.ndarray) -> None:
        """Have the module give y + L R y in place of its output y, until the `with` ends."""
        changed.append((module, type(module)))
        module.__class__ = _less(type(module), mx.array((left @ right).astype(np.float32)))

    try:
        for writer in writers(network, width) if removals else []:
            left, right = writer.removed(removals)
            if left.shape[1]:
                change(writer.module, left, right)
        if embedding is not None:
            change(dict(network.named_modules())[embedding], *removed_from_rows(removals))
        yield
    finally:
        for module, cls in changed:
            module.__class__ = cls


def removed_from_rows(removals: Sequence[Removal]) -> tuple[np.ndarray, np.ndarray]:
    """L (D, k), R (k, D) of every direction that is taken out: what enters the stream, x, becomes x + L R x."""
    return low_rank([removal.unit for removal in removals], [removal.share for removal in removals])


def _less(cls: type[nn.Module], change: mx.array) -> type[nn.Module]:
    call: Callable[..., mx.array] = cls.__call__

    def less(module: nn.Module, *args: Any, **kwargs: Any) -> mx.array:
        """The module's own output with the change added, computed in float32."""
        y = call(module, *args, **kwargs)
        return y + (y.astype(mx.float32) @ change.T).astype(y.dtype)

    return type(cls.__name__, (cls,), {"__call__": less, "__module__": cls.__module__})


def embedding_of(network: nn.Module) -> str:
    """The name of the matrix (V, D) that tokens enter the stream by. Raises NotBakeable where it is not known."""
    blocks = {id(module) for block in network.layers for _, module in block.named_modules()}
    tables = (nn.Embedding, nn.QuantizedEmbedding)
    found = [n for n, m in network.named_modules() if isinstance(m, tables) and id(m) not in blocks]
    if len(found) != 1:
        raise NotBakeable(
            f"{architecture(network)} has {len(found)} tables of embeddings: which one writes into the stream is not "
            "known, so leave the embeddings as they are"
        )
    return found[0]
