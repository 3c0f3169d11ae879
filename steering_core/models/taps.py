"""Taps: see and change what every block of a network puts into the residual stream.

A tapped block keeps its identity, its place and its parameters. Its class is exchanged for a subclass that hands the
block's output through `Taps`, and put back when the taps are removed. So no list of blocks has to be found, and no
attribute forwarded. That works on every mlx-lm architecture, the 12 whose `layers` is a fresh slice among them
(docs/decisions/0003-taps.md).
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from steering_core.backend.mlx import mx, nn
from steering_core.foundation.errors import ModelUnsupported, TapNotFired

Edit = Callable[[mx.array], mx.array]
"""What one tap does to its block's output, (B, T, D) -> (B, T, D); it may also only look, or change B or T."""

Look = Callable[[mx.array], None]
"""What is shown a stream, (B, T, D), and changes nothing."""

After = Callable[[int, mx.array], None]
"""What is told each layer and its block's output, (B, T, D), after every edit."""

_MINE = "_steerflow_taps"  # the attribute of a tapped block's class that holds its `Taps`

Edits = dict[int, Edit]
"""Each layer's edit; layers at which nothing is done or seen are left out."""


def looking(look: Look) -> Edit:
    """An edit that shows `look` the stream and hands it on as it came."""

    def edit(h: mx.array) -> mx.array:
        """Look at the stream, and hand it on."""
        look(h)
        return h

    return edit


def chained(first: Edit, second: Edit) -> Edit:
    """`first`, then `second`."""
    return lambda h: second(first(h))


def merged(first: Edits, second: Edits) -> Edits:
    """The edits of both; at a layer that both edit, `first` and then `second`."""
    return {**first, **{layer: chained(first[layer], e) if layer in first else e for layer, e in second.items()}}


class Taps:
    """Taps on every block of `network`, in place from `install` to `remove`; idle until `applied`.

    Raises ModelUnsupported where the network shows no blocks, or one block stands at two layers.
    """

    def __init__(self, network: nn.Module) -> None:
        self._blocks: list[nn.Module] = list(getattr(network, "layers", []))
        if not self._blocks:
            raise ModelUnsupported(f"{type(network).__module__} shows no `layers`, so it cannot be steered")
        if len({id(block) for block in self._blocks}) != len(self._blocks):
            raise ModelUnsupported(f"{type(network).__module__} runs one block at several layers: not supported")
        self._classes = [type(block) for block in self._blocks]
        self._edits: Mapping[int, Edit] = {}
        self._fired: set[int] = set()
        self._after: After | None = None
        self._installed = 0

    @classmethod
    def on(cls, network: nn.Module) -> "Taps":
        """The taps that are on the network already, or new ones: two models may stand on one network."""
        found = {id(taps): taps for block in getattr(network, "layers", []) if (taps := getattr(block, _MINE, None))}
        return next(iter(found.values())) if len(found) == 1 else cls(network)

    def __len__(self) -> int:
        return len(self._blocks)

    def install(self) -> None:
        """Exchange the blocks' classes, unless that was done; each `install` has its `remove`."""
        self._installed += 1
        if self._installed > 1:
            return
        for layer, (block, cls) in enumerate(zip(self._blocks, self._classes, strict=True)):
            block.__class__ = self._tapped(layer, cls)

    def remove(self) -> None:
        """Put the blocks' own classes back, at the last `remove`."""
        self._installed -= 1
        if self._installed:
            return
        for block, cls in zip(self._blocks, self._classes, strict=True):
            block.__class__ = cls

    @contextlib.contextmanager
    def applied(self, edits: Mapping[int, Edit]) -> Iterator[None]:
        """Have each layer's edit act on every forward pass inside the `with`.

        Raises TapNotFired at its end where a layer's block was never called.
        """
        self._edits, self._fired = edits, set()
        try:
            yield
        finally:
            self._edits = {}
        if missed := sorted(edits.keys() - self._fired):
            raise TapNotFired(f"the forward pass never called block {', '.join(map(str, missed))}, so nothing was done")

    @contextlib.contextmanager
    def observed(self, layers: Iterable[int]) -> Iterator[dict[int, mx.array]]:
        """The stream after each of those blocks, (B, T, D), lazily, as the latest pass inside the `with` left it.

        Raises TapNotFired at its end where one of the blocks was never called.
        """
        seen: dict[int, mx.array] = {}
        with self.applied({layer: looking(partial(seen.__setitem__, layer)) for layer in layers}):
            yield seen

    @contextlib.contextmanager
    def followed(self, after: After) -> Iterator[None]:
        """Have `after` told of every block's output inside the `with`, once the edits have acted on it."""
        self._after = after
        try:
            yield
        finally:
            self._after = None

    def _tapped(self, layer: int, cls: type[nn.Module]) -> type[nn.Module]:
        call = cls.__call__

        def tapped_call(block: nn.Module, *args: Any, **kwargs: Any) -> Any:
            """The block's own call; its output goes through the layer's edit, and then to whoever hears of blocks."""
            output = call(block, *args, **kwargs)
            stream, *more = (
                output if isinstance(output, tuple) else (output,)
            )  # some blocks return more than the stream
            if edit := self._edits.get(layer):
                self._fired.add(layer)
                stream = edit(stream)
            if self._after is not None:
                self._after(layer, stream)
            return (stream, *more) if isinstance(output, tuple) else stream

        own = {"__call__": tapped_call, "__module__": cls.__module__, _MINE: self}
        return type(cls.__name__, (cls,), own)
