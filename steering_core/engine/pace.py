"""Pace: on a GPU, long passes are computed a few blocks at a time, so that what blocks leave behind is soon free.

MLX hands a whole pass to the GPU, and frees a block's temporaries only when the queue has come by: an 8B model's
pass over 16,384 tokens held 22 GiB of them. Waited for after each block, with the next one already in the queue, a pass
of 4,096 tokens holds 1.8 GiB and is as fast (docs/benchmarks.md). No number changes. A CPU needs no pace.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

from steering_core.backend.mlx import mx, on_cpu
from steering_core.models import Model


@contextlib.contextmanager
def paced(
    model: Model, tokens: int, depth: int, blocks: range, along: Callable[[int], Sequence[mx.array]] = lambda _: ()
) -> Iterator[None]:
    """Have a pass inside the `with`, over `tokens` tokens that see `depth` positions, computed block by block.

    Blocks outside of `blocks` are left lazy, as nobody may want them. `along` gives arrays that are evaluated together
    with a block's output.
    """
    step = len(blocks) if on_cpu() else model.memory.blocks_at_once(tokens, depth)
    if step >= len(blocks):
        yield
        return
    begun: list[mx.array] = []  # in the queue, and not waited for
    noted: list[mx.array] = []

    def after(layer: int, stream: mx.array) -> None:
        """Queue every `step` blocks, and wait for those that were queued one step before."""
        nonlocal begun, noted
        if layer not in blocks:
            return
        noted += along(layer)
        if (layer - blocks.start) % step == step - 1:
            now, noted = [stream, *noted], []
            mx.async_eval(now)
            mx.eval(begun)
            begun = now

    with model.taps.followed(after):
        yield
