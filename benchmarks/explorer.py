"""The explorer's speed: the first token over HTTP against the engine's own, and the page on a large store.

    python -m benchmarks.explorer [--model smollm2-135m] [--rows 1000000] [--pairs 9]

First tokens are measured as interleaved pairs on one warm model: the same prompt and one row, through the engine's
stream in this process and through the server. The store of the second part holds a small run on a tiny model and that
many synthetic activation rows of width 64; the page is loaded in chromium, cold, to the leaderboard and the heat map.
"""

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
from playwright.sync_api import sync_playwright

from benchmarks.telling import left_out, options
from steering_core.concepts import Concept, Item, Pair
from steering_core.engine.sampling import Request, stream
from steering_core.models import open_model
from steering_core.prompts import prompt
from steering_core.store import TABLES, Store
from tests.browser import CHROMIUM
from tests.explorer import ran_store, served
from tests.tiny import save_tiny_model

TEXT = "Tell me about your day at the seaside, and about the weather there."
LAYERS, WIDTH, SHARD = 30, 64, 2000  # of the synthetic activations; prompts a shard


def engine_first_token(name: str, pairs: int, address: str) -> tuple[list[float], list[float]]:
    """Seconds to the first token, by the engine and over HTTP, one after the other."""
    body = {"model": name, "prompt": TEXT, "max_tokens": 2, "temperature": 0, "compare": False}
    engine, server = [], []
    with open_model(name) as model, httpx.Client(base_url=address, timeout=120) as client:
        for _ in range(pairs + 1):
            started = time.perf_counter()
            with stream(model, [Request(prompt(model, TEXT, chat=True).tokens)], 2) as tokens:
                next(tokens)
            engine.append(time.perf_counter() - started)
            started = time.perf_counter()
            with client.stream("POST", "/api/steer", json=body) as answer:
                next(line for line in answer.iter_lines() if '"token"' in line)
            server.append(time.perf_counter() - started)
    return engine[1:], server[1:]  # the first of each loads the weights


def large_store(folder: Path, tiny: Path, rows: int) -> Store:
    """A store with a small run on the model in `tiny`, and `rows` activation rows of another model."""
    pairs = tuple(Pair(positive=f"{i} yes", negative=f"{i} no") for i in range(10))
    items = tuple(Item(prompt=f"Is it {i}?", matching="yes", not_matching="no") for i in range(8))
    concept = Concept(name="agree", pairs=pairs, prompts=("Well,",), items=items)
    store = ran_store(folder, tiny, concept, scores={"bootstrap": 100}, vectors={})
    draw = np.random.default_rng(0)
    in_shard = min(SHARD, -(-rows // LAYERS))
    for shard in range(-(-rows // (LAYERS * in_shard))):
        n = LAYERS * in_shard
        values = pa.array(draw.standard_normal(n * WIDTH, np.float32))
        columns = {
            "model_id": ["0" * 20] * n,
            "prompt_id": [f"{shard * in_shard + i:020x}" for i in range(in_shard)] * LAYERS,
            "site": ["resid_post"] * n,
            "position": ["last"] * n,
            "layer": np.repeat(np.arange(LAYERS), in_shard),
            "token": [None] * n,
            "n_read": [1] * n,
            "residual_norm": np.ones(n),
            "activation": pa.FixedSizeListArray.from_arrays(values, WIDTH).cast(pa.list_(pa.float32())),
        }
        table = pa.table(columns).select(TABLES["activations"].schema.names).cast(TABLES["activations"].schema)
        store.append_activations("0" * 20, table, in_shard)
    return store


def page_seconds(address: str, repeats: int) -> list[float]:
    """Seconds from the address to a leaderboard and a heat map that are drawn."""
    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for _ in range(repeats):
            page = browser.new_context().new_page()
            started = time.perf_counter()
            page.goto(f"{address}/#look")
            page.wait_for_selector("#detail tbody tr")
            page.wait_for_selector("#detail .chart svg .mark-rect path")
            found.append(time.perf_counter() - started)
            page.close()
        browser.close()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both figures."""
    parser = options(__doc__)
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=9)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as work:
        tiny = save_tiny_model(Path(work) / "tiny")
        if given.tiny:
            given.model, given.rows, given.pairs = str(tiny), 60, 1
        store = large_store(Path(work), tiny, given.rows)
        n = store.rows("SELECT count(*) AS n FROM raw.activations")[0]["n"]
        with served(store, models=[given.model]) as address:
            engine, server = engine_first_token(given.model, given.pairs, address)
            ratio = statistics.median(b / a for a, b in zip(engine, server, strict=True))
            print(f"first token, median of {given.pairs} pairs: engine {statistics.median(engine) * 1000:.0f} ms, "
                  f"over HTTP {statistics.median(server) * 1000:.0f} ms, ratio {ratio:.2f}")  # fmt: skip
            if not CHROMIUM:
                left_out("the page", "no chromium on the PATH")
                return
            shown = page_seconds(address, repeats=1 if given.tiny else 5)
            print(f"page on {n:,} activation rows, to leaderboard and heat map: median "
                  f"{statistics.median(shown):.2f} s of {', '.join(f'{s:.2f}' for s in shown)}")  # fmt: skip


if __name__ == "__main__":
    main()
