"""A concept for the toy model, its grid, and runs of it."""

from pathlib import Path
from typing import Any

import numpy as np
import yaml

from steering_core.candidates.cell import RANDOM, Cell, unsteered
from steering_core.concepts import Concept, Item, Pair
from steering_core.models import Model
from steering_core.pipeline.discover import run
from steering_core.scores.metrics import Setup
from steering_core.spec import Spec
from steering_core.store import Store
from steering_core.vectors.vector import Vector
from tests import toy

WORDS = ("apple", "bread", "cloud", "dance", "eagle", "flame", "grape", "house", "igloo", "jelly", "knife", "lemon")
CONCEPT = Concept(
    name="capitals",
    pairs=tuple(Pair(positive=f"{a.upper()} {b.upper()}", negative=f"{a} {b}") for a, b in zip(WORDS, WORDS[3:])),  # noqa: B905
    prompts=("1, 2, 3:", "4 + 5 =", "6: 7,", "8!", "9; 10;", "11.", "(12)", "13 - 1"),
    items=tuple(Item(prompt=f"{i}?", matching=WORDS[i % 12].upper(), not_matching=WORDS[i % 12]) for i in range(40)),
)
CAPITALS = Concept(
    name="capitals",
    pairs=tuple(Pair(positive=f"{a} {b}".upper(), negative=f"{a} {b}") for a in WORDS[:4] for b in WORDS),
    prompts=("1, 2, 3:", "4 + 5 ="),
    items=tuple(Item(prompt=f"{i}?", matching=WORDS[i % 12].upper(), not_matching=WORDS[i % 12]) for i in range(20)),
)


VECTOR = "0123456789abcdef0123"  # a whole key: whoever writes one is not asked whether an alpha was meant so


def cells(model: Model, layer: int, alphas: tuple[float, ...]) -> list[Cell]:
    """The model untouched, and steered along v at a layer, for these alphas."""
    _, v = toy.axes()
    vector = Vector(
        VECTOR, model.identity.model_id, CONCEPT.concept_id, "planted", layer, 10.0, direction=np.float32(v)
    )
    of = (model.identity.model_id, CONCEPT.concept_id, "generation")
    return [unsteered(model.identity, CONCEPT), *(Cell.adding(*of, [vector], [a]) for a in alphas)]


def ran(folder: Path, judge: dict[str, Any] | None = None, **scores: Any) -> Store:
    """The store of a small run on the toy model, layer 1 steered."""
    if not (folder / "capitals.yaml").exists():
        toy.save_toy_model(folder / "toy")
        (folder / "capitals.yaml").write_text(yaml.safe_dump(CAPITALS.model_dump(mode="json", exclude_none=True)))
    spec = Spec(
        models=(str(folder / "toy"),),
        concepts=(str(folder / "capitals.yaml"),),
        generations={"layers": (1,), "doses": (0.2,), "prompts": 2, "max_tokens": 8},
        scores={"bootstrap": 100, "max_kl": 9.0, "judge": judge, **scores},
    )
    store = Store(folder / "store")
    run(spec, store)
    return store


def vectors(setup: Setup) -> list[Vector]:
    """Two methods' directions at three layers, the later the closer to the planted one, each with two random ones."""
    u, v = toy.axes()
    noise = np.random.default_rng(3).standard_normal((6, toy.WIDTH))
    made = []
    for layer in range(3):
        for m, method in enumerate(("planted", "bent")):
            close = (layer + 1 - 0.2 * m) / 3
            mixed = (3 - m) * (close * v + np.sqrt(1 - close**2) * u)
            for control, direction in ((None, mixed), (RANDOM, noise[2 * m]), (RANDOM, noise[2 * m + 1])):
                scaled = direction * np.linalg.norm(mixed) / np.linalg.norm(direction)
                of = (setup.model.identity.model_id, setup.concept.concept_id, method, layer, 10.0 + layer)
                made.append(Vector(f"{len(made):020x}", *of, control=control, direction=np.float32(scaled)))
    return made
