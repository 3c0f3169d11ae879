"""Many small files: what an open, a query and a run whose results are all there cost.

    python -m benchmarks.files [--files 10000] [--run]

A row a file is how a store looks that many short runs wrote. `written` appends them as a run does, which merges them;
`found` writes the files past the store, as a version before did that merged nothing, and opens it twice. Beside both, a
store of the same rows in one file.
"""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.telling import options
from steering_core.pipeline.discover import run
from steering_core.spec import Spec
from steering_core.store import TABLES, Store
from steering_core.store.wholeness import file_key
from tests import quick
from tests.tiny import save_tiny_model

QUESTION = "SELECT count(*), max(value) FROM scores"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the part that is named; with `--tiny` both."""
    parser = options(__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--run", action="store_true", help="a run on a tiny model, again beside 1,000 more files")
    given = parser.parse_args(arguments)
    if given.tiny or not given.run:
        small_files(20 if given.tiny else given.files)
    if given.tiny or given.run:
        run_again(*((5, quick.SPEC) if given.tiny else (1000, {})))


def small_files(n: int) -> None:
    """Print seconds of an open and a query, and of an append, with `n` files and with one."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [score(i) for i in range(n)]
        one = Path(folder) / "one"
        Store(one).append("scores", rows)
        least = opened_and_asked(one)
        print(f"{'one file':44}{least:8.3f} s")
        found = Path(folder) / "found"
        scatter(Store(found), rows)
        began = time.perf_counter()
        Store(found).query(QUESTION)
        print(f"{f'found, {n:,} files, opened the first time':44}{time.perf_counter() - began:8.3f} s")
        line(f"found, {count(found):,} files, opened again", opened_and_asked(found), least)
        written = Path(folder) / "written"
        store = Store(written)
        began = time.perf_counter()
        for row in rows[: n // 10]:
            store.append("scores", [row])
        each = (time.perf_counter() - began) / (n // 10)
        print(f"{'an append, merging included':44}{each:8.3f} s")
        line(f"written in {n // 10:,} appends, {count(written):,} files", opened_and_asked(written), least)


def run_again(n: int, more: Mapping[str, Any]) -> None:
    """Print seconds of a run whose results are all there, before and after `n` files more lie beside them.

    `more` are further sections of its spec.
    """
    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny_model(Path(folder) / "tiny")
        path = Path(folder) / "yes.yaml"
        pairs = [{"prompt": f"Is it {i}?", "positive": f"yes {i}", "negative": f"no {i}"} for i in range(10)]
        items = [{"prompt": f"So {i}?", "matching": "yes", "not_matching": "no"} for i in range(8)]
        path.write_text(json.dumps({"name": "yes", "pairs": pairs, "prompts": ["Well,"], "items": items}))
        grid = {"layers": [1, 2], "doses": [0.5], "prompts": 1, "max_tokens": 4}
        spec = Spec.model_validate({"models": [str(model)], "concepts": [str(path)], "generations": grid, **more})
        root = Path(folder) / "store"
        for name in ("first", "again", f"with {n:,} files more", "again"):
            if name.startswith("with"):
                scatter(Store(root), [score(i) for i in range(n)])
            began = time.perf_counter()
            run(spec, Store(root))
            print(f"{f'run, {name}':44}{time.perf_counter() - began:8.3f} s")


def score(i: int) -> dict[str, Any]:
    """A row of the table scores."""
    return dict.fromkeys(TABLES["scores"].schema.names) | {"score_id": f"{i:020x}", "model_id": "m", "value": float(i)}


def scatter(store: Store, rows: list[dict[str, Any]]) -> None:
    """Write a file a row, past the store."""
    for row in rows:
        table = pa.Table.from_pylist([row], schema=TABLES["scores"].schema)
        pq.write_table(table, Path(store.root, "scores", f"{file_key('scores', table)}.parquet"))


def count(root: Path) -> int:
    """Files of the table."""
    return len(list((root / "scores").glob("*.parquet"))) - 1


def opened_and_asked(root: Path) -> float:
    """Seconds to open a store and ask it one question, the best of five."""
    taken = []
    for _ in range(5):
        began = time.perf_counter()
        Store(root).query(QUESTION)
        taken.append(time.perf_counter() - began)
    return min(taken)


def line(name: str, seconds: float, least: float) -> None:
    """Print seconds, and how many times as many as with one file."""
    print(f"{name:44}{seconds:8.3f} s   {seconds / least:5.2f} times one file")


if __name__ == "__main__":
    main()
