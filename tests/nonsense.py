"""Nonsense: pairs whose sides a coin decides, on a model that means nothing. Whatever comes out, chance made."""

import random
from pathlib import Path

import yaml

from steering_core.concepts import Concept, Item, Pair

WORDS = [a + b + c for a in "bdgklmnprst" for b in "aeiou" for c in "bdgklmnprst"]


def nonsense(seed: int, flip_items: bool) -> Concept:
    """A concept of random words; the seed decides which side of each pair, and of each item if wanted, is which.

    The words are the same for every seed, so that all seeds share their prompts and so their activations.
    """
    words, coin = random.Random(0), random.Random(f"{seed}")
    pairs = [_flipped(coin, *_two(words)) for _ in range(30)]
    items = [(f"{' '.join(words.sample(WORDS, 3))}?", *_two(words)) for _ in range(40)]
    if flip_items:
        items = [(question, *_flipped(coin, a, b)) for question, a, b in items]
    return Concept(
        name=f"nonsense-{seed}",
        pairs=tuple(Pair(positive=a, negative=b) for a, b in pairs),
        prompts=(words.choice(WORDS),),
        items=tuple(Item(prompt=question, matching=a, not_matching=b) for question, a, b in items),
    )


def _two(words: random.Random) -> tuple[str, str]:
    return " ".join(words.sample(WORDS, 2)), " ".join(words.sample(WORDS, 2))


def _flipped(coin: random.Random, a: str, b: str) -> tuple[str, str]:
    return (a, b) if coin.random() < 0.5 else (b, a)


def dealt_anew(concept: Concept, seed: int) -> Concept:
    """The concept with a coin deciding the sides of every pair and item."""
    coin = random.Random(f"dealt anew {seed}")
    pairs, items = [], []
    for pair in concept.pairs:
        positive, negative = _flipped(coin, pair.positive, pair.negative)
        pairs.append(Pair(prompt=pair.prompt, positive=positive, negative=negative))
    for item in concept.items:
        matching, other = _flipped(coin, item.matching, item.not_matching)
        items.append(Item(prompt=item.prompt, matching=matching, not_matching=other))
    return concept.model_copy(update={"name": f"nonsense-{seed}", "pairs": tuple(pairs), "items": tuple(items)})


def save_nonsense(folder: Path, seed: int, flip_items: bool) -> Path:
    """The concept as a YAML file."""
    path = folder / f"nonsense-{seed}.yaml"
    path.write_text(yaml.safe_dump(nonsense(seed, flip_items).model_dump(mode="json", exclude_none=True)))
    return path
