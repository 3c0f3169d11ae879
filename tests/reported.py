"""A run whose report is read: a concept with texts that mean no good, on the toy model."""

from pathlib import Path

import yaml

from steering_core.concepts import Concept
from steering_core.pipeline.discover import run
from steering_core.spec import Spec
from steering_core.store import Row, Store
from tests import toy

CONCEPT = Concept(
    name="capitals",
    pairs=tuple({"positive": a, "negative": a.lower()} for a in ("AB", "CD", "EF", "GH", "IJ", "KL", "MN", "OP", "QR")),
    prompts=("<script>alert(1)</script>", "![1 + 1](//evil.example/a.png) | *"),
    items=tuple({"prompt": f"{i}?", "matching": "YES", "not_matching": "no"} for i in range(20)),
)


def reported_store(folder: Path) -> Store:
    """A store in `folder` with a run of the concept."""
    path = folder / "capitals.yaml"
    path.write_text(yaml.safe_dump(CONCEPT.model_dump(mode="json", exclude_none=True)))
    spec = Spec(
        models=(str(toy.save_toy_model(folder / "toy")),),
        concepts=(str(path),),
        generations={"layers": "all", "doses": (0.02, 0.05), "prompts": 2, "max_tokens": 4},
        scores={"bootstrap": 200, "max_perplexity_ratio": 9.0},
    )
    store = Store(folder / "store")
    run(spec, store)
    return store


def a_recommendation(store: Store) -> Row:
    """A recommendation of the store."""
    return store.rows("SELECT * FROM recommendations LIMIT 1")[0]
