"""Watching: hear what passes a site of the wanted blocks, without changing it."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

from steering_core.activations.sites import SITE
from steering_core.backend.mlx import mx, nn
from steering_core.foundation.errors import SiteNotFound, TapNotFired
from steering_core.models import Model
from steering_core.models.taps import Look, looking

_NAMES = {  # the first that a block has; within another part where the block calls that one's parts by itself
    "attn_out": (
        *("self_attn", "attention", "attn.attention", "attn", "norm_attn_norm.attn", "linear_attn", "temporal_block"),
        *("mixer", "local_mixer", "mamba"),
    ),
    "mlp_out": ("mlp", "feed_forward", "block_sparse_moe", "moe", "ffn", "mlp_block"),
}


@contextlib.contextmanager
def watching(model: Model, site: str, looks: Mapping[int, Look]) -> Iterator[None]:
    """Have each layer's look see what passes `site` of its block, (B, T, D), in every forward pass inside the `with`.

    `attn_out` and `mlp_out` are what the block's own attention and MLP return. Raises SiteNotFound where a block has no
    such part, TapNotFired at the end where one was never called.
    """
    if site == SITE:
        with model.taps.applied({layer: looking(look) for layer, look in looks.items()}):
            yield
        return
    heard: set[int] = set()
    with contextlib.ExitStack() as stack:
        for layer, look in looks.items():
            stack.enter_context(_overheard(_part(model, layer, site), _noting(heard, layer, look), site == "resid_pre"))
        yield
    if missed := sorted(looks.keys() - heard):
        raise TapNotFired(f"the forward pass never called {site} of block {', '.join(map(str, missed))}")


def _noting(heard: set[int], layer: int, look: Look) -> Look:
    def noted(h: mx.array) -> None:
        """Note that the layer was heard, and look at the site's output."""
        heard.add(layer)
        look(h)

    return noted


def _part(model: Model, layer: int, site: str) -> nn.Module:
    block = model.network.layers[layer]
    if site == "resid_pre":
        return block
    for name in _NAMES[site]:
        found = functools.reduce(lambda part, inner: getattr(part, inner, None), name.split("."), block)
        if isinstance(found, nn.Module):
            return found
    parts = ", ".join(name for name, part in block.children().items() if part)
    raise SiteNotFound(f"{model.name} has no {site} at layer {layer}: its block's parts are {parts}")


@contextlib.contextmanager
def _overheard(module: nn.Module, look: Look, before: bool) -> Iterator[None]:
    """Exchange the module's class, inside the `with`, for one that shows `look` its input (`before`) or its output."""
    cls = type(module)

    def call(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """The module's own call, with its input or its output shown to `look`."""
        if before:
            look(args[0])
            return cls.__call__(self, *args, **kwargs)
        output = cls.__call__(self, *args, **kwargs)
        look(output[0] if isinstance(output, tuple) else output)
        return output

    module.__class__ = type(cls.__name__, (cls,), {"__call__": call, "__module__": cls.__module__})
    try:
        yield
    finally:
        module.__class__ = cls
