"""Storage: writing and reading activations, and questions over a million of them, beside NumPy.

    python -m benchmarks.queries [--prompts 2000] [--layers 30] [--width 576] [--million]

Values are random bfloat16 numbers held as float32, as a bfloat16 model gives them. NumPy's turn works on arrays that
are in memory already: it is the limit, not a rival. The best of five counts, the file cache is warm.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.telling import options
from steering_core.store import Store


def main(arguments: Sequence[str] | None = None) -> None:
    """Write, read and ask; print milliseconds and rates."""
    parser = options(__doc__)
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--width", type=int, default=576)
    parser.add_argument("--shard", type=int, default=1000, help="prompts a file")
    parser.add_argument("--million", action="store_true", help="a million activations: 33,334 prompts at 30 layers")
    given = parser.parse_args(arguments)
    if given.tiny:
        given.prompts, given.layers, given.width, given.shard = 24, 3, 16, 10
    prompts = 33_334 if given.million else given.prompts
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        seconds, written = 0.0, 0
        for begin in range(0, prompts, given.shard):
            ids = [f"{i:020x}" for i in range(begin, min(prompts, begin + given.shard))]
            table = shard(ids, given.layers, given.width, seed=begin)
            written += table.nbytes
            began = time.perf_counter()
            store.append_activations("m", table, len(ids))
            seconds += time.perf_counter() - began
        on_disk = sum(store.folder.size(name) for name in store.folder.names("activations"))
        print(f"{prompts:,} prompts x {given.layers} layers x {given.width}: {written / 1e6:,.0f} MB")
        rate = f"{written / seconds / 1e6:6.0f} MB/s, {on_disk / 1e6:,.0f} MB on disk"
        print(f"{'write, flushed':34}{1e3 * seconds:9.0f} ms  {rate}")
        ask(store, given.layers // 2, given.width)


def shard(ids: list[str], layers: int, width: int, seed: int) -> pa.Table:
    """A table as extraction writes it, of random numbers with bfloat16's digits."""
    n = len(ids) * layers
    drawn = np.random.default_rng(seed).standard_normal((n, width), np.float32)
    drawn = (drawn.view(np.uint32) & 0xFFFF0000).view(np.float32)
    texts = {"model_id": ["m"] * n, "prompt_id": ids * layers, "site": ["resid_post"] * n, "position": ["last"] * n}
    return pa.table(
        {
            **{name: pa.array(values) for name, values in texts.items()},
            "layer": pa.array(np.repeat(np.arange(layers, dtype=np.int32), len(ids))),
            "token": pa.nulls(n, pa.int32()),
            "n_read": pa.array(np.ones(n, np.int32)),
            "residual_norm": pa.array(np.ones(n, np.float32)),
            "activation": pa.FixedSizeListArray.from_arrays(pa.array(drawn.reshape(-1)), width),
        }
    )


def ask(store: Store, layer: int, width: int) -> None:
    """The questions, through DuckDB and with NumPy."""
    vector = np.random.default_rng(9).standard_normal(width).astype(np.float32)
    read = "SELECT prompt_id, activation FROM raw.activations WHERE layer = ?"
    held = store.query(read, [layer])["activation"].combine_chunks().flatten().to_numpy().reshape(-1, width)
    wanted = pa.table({"v": pa.array([vector], pa.list_(pa.float32()))})
    cosine = f"array_cosine_similarity(activation::FLOAT[{width}], v::FLOAT[{width}])"
    norms = np.linalg.norm(held, axis=1)

    def line(name: str, duckdb: Callable[[], Any], numpy: Callable[[], Any] | None = None) -> None:
        beside = f"   NumPy, in memory: {best(numpy):7.1f} ms" if numpy else ""
        print(f"{name:34}{best(duckdb):9.1f} ms{beside}")

    line("read one layer", lambda: store.query(read, [layer]))
    line(
        "similarity to a vector, one layer",
        lambda: store.query(
            f"SELECT avg({cosine}) FROM raw.activations, wanted WHERE layer = ?", [layer], wanted=wanted
        ),
        lambda: (held @ vector / norms / np.linalg.norm(vector)).mean(),
    )
    line(
        "ten nearest prompts, one layer",
        lambda: store.query(
            f"SELECT prompt_id FROM raw.activations, wanted WHERE layer = ? ORDER BY {cosine} DESC LIMIT 10",
            [layer],
            wanted=wanted,
        ),
        lambda: np.argpartition(-(held @ vector / norms), 10)[:10],
    )
    mean = ", ".join(f"avg(activation[{i + 1}])" for i in range(8))
    line(
        "mean of 8 components by layer, all",
        lambda: store.query(f"SELECT layer, {mean} FROM raw.activations GROUP BY layer"),
    )
    line("which prompts are there, all", lambda: store.query("SELECT DISTINCT prompt_id FROM raw.activations"))
    line("a small query", lambda: store.query("SELECT count(*) FROM raw.models"))


def best(function: Callable[[], Any], times: int = 5) -> float:
    """Milliseconds of the fastest of five calls."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        function()
        taken.append(time.perf_counter() - began)
    return 1e3 * min(taken)


if __name__ == "__main__":
    main()
