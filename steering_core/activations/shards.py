"""Shards: captured activations as tables, written in a thread of their own while the next are computed."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from steering_core.activations.capture import Capture, Captured
from steering_core.models import ModelIdentity
from steering_core.prompts import Prompt
from steering_core.store import Store

SHARD_BYTES = 64 << 20  # activations that are written as one file
SHARD_PROMPTS = 2048


class ShardWriter:
    """Publishes tables in a thread of its own, at most one waiting while the next is computed."""

    def __init__(self, store: Store, model: ModelIdentity) -> None:
        self._store, self._model = store, model
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="shards")
        self._pending: Future[None] | None = None

    def write(self, rows: pa.Table, row_group_size: int) -> None:
        """Have `rows` published. Waits for the shard before them, and raises what its publishing raised."""
        self.finish()
        self._pending = self._thread.submit(self._store.append_activations, self._model.model_id, rows, row_group_size)

    def finish(self) -> None:
        """Wait until all is published."""
        if self._pending:
            self._pending.result()
        self._pending = None

    def close(self) -> None:
        """End the thread; a shard that it has begun is finished."""
        self._thread.shutdown(wait=True)


@contextlib.contextmanager
def writing(store: Store, model: ModelIdentity) -> Iterator[ShardWriter]:
    """A writer whose shards are all published at the end of the `with`."""
    writer = ShardWriter(store, model)
    try:
        yield writer
        writer.finish()
    finally:
        writer.close()


def shards(prompts: Sequence[Prompt], bytes_each: Sequence[int]) -> Iterator[list[Prompt]]:
    """Prompts that make one file each; neighbours in the order of tokens, so that shared prefixes stay together."""
    shard: list[Prompt] = []
    size = 0
    for i in sorted(range(len(prompts)), key=lambda i: prompts[i].tokens):
        if shard and (size + bytes_each[i] > SHARD_BYTES or len(shard) == SHARD_PROMPTS):
            yield shard
            shard, size = [], 0
        shard.append(prompts[i])
        size += bytes_each[i]
    if shard:
        yield shard


def shard_table(model: ModelIdentity, capture: Capture, captured: Sequence[Captured]) -> pa.Table:
    """The rows of a shard, layer after layer: layers x prompts, or layers x tokens."""
    reading = capture.reading
    owners = [row for found in captured for row in _owners(found)]
    tokens: list[int | None] = [
        t for found in captured for t in (range(len(found.values)) if reading.position == "all" else ())
    ]
    values = np.concatenate([found.values for found in captured])  # (N, L, D)
    norms = np.concatenate([found.residual_norms for found in captured])  # (N, L)
    n, n_layers, width = values.shape
    prompt_ids = pa.array([prompt.prompt_id for prompt in capture.prompts], pa.string())
    n_read = [1 if tokens else int(capture.read(row).sum()) for row in owners]
    flat = pa.array(np.ascontiguousarray(values.swapaxes(0, 1)).reshape(-1))
    columns = {
        "model_id": _same(model.model_id, n * n_layers),
        "prompt_id": prompt_ids.take(pa.array(owners * n_layers)),
        "site": _same(reading.site, n * n_layers),
        "position": _same(reading.position, n * n_layers),
        "layer": pa.array(np.repeat(np.array(reading.layers, np.int32), n)),
        "token": pa.array((tokens or [None] * n) * n_layers, pa.int32()),
        "n_read": pa.array(n_read * n_layers, pa.int32()),
        "residual_norm": pa.array(np.ascontiguousarray(norms.T).reshape(-1)),
        "activation": pa.FixedSizeListArray.from_arrays(flat, width),
    }
    return pa.table(columns)


def _owners(found: Captured) -> list[int]:
    """The prompt of every row of `found.values`."""
    return list(found.rows) if len(found.rows) == len(found.values) else list(found.rows) * len(found.values)


def _same(text: str, n: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(np.zeros(n, np.int32), [text]).cast(pa.string())
