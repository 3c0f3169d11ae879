"""Texts measured without a model: words, marks, surface features, likeness."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from steering_core.foundation.keys import content_key

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_MARKS = ".,;:!?'\"()-–—"
_BUCKETS = 4096
_BLOCK = 512


def words(text: str) -> list[str]:
    """The words and numbers of a text in lower case; an apostrophe inside a word belongs to it."""
    return [word.replace("’", "'") for word in _WORD.findall(text.lower())]


def marks(text: str) -> list[str]:
    """The punctuation marks of a text."""
    return [letter for letter in text if letter in _MARKS]


def surface(text: str) -> dict[str, float]:
    """What shows without reading: length, word length, capitals, digits, sentences, contractions, marks; no word."""
    found = _WORD.findall(text)
    features = {
        "words": math.log1p(len(found)),
        "letters a word": sum(map(len, found)) / max(len(found), 1),
        "capitals": float(sum(word[0].isupper() for word in found)),
        "digits": float(sum(letter.isdigit() for letter in text)),
        "sentences": float(len(re.findall(r"[.!?]+", text))),
        "contractions": float(sum("'" in word.replace("’", "'") for word in found)),
    }
    counts = Counter(marks(text))
    return features | {mark: float(counts[mark]) for mark in _MARKS}


def bag(text: str) -> dict[str, float]:
    """The words and marks that occur in a text."""
    return dict.fromkeys([*words(text), *marks(text)], 1.0)


def alike(texts: Sequence[str], threshold: float) -> list[tuple[int, int, float]]:
    """Pairs (i, j, likeness) of texts, i < j, whose likeness reaches `threshold`, the most alike first.

    Likeness is the cosine of their words and word pairs, weighted by how few of the texts hold them, so that a stem
    that many texts share counts for little; 1 for texts of the same words in the same order.
    """
    vectors = _weighted([_grams(text) for text in texts])
    hashed = np.zeros((len(texts), _BUCKETS), np.float32)
    buckets = {gram: int(content_key(gram)[:8], 16) % _BUCKETS for vector in vectors for gram in vector}
    for row, vector in enumerate(vectors):
        for gram, weight in vector.items():
            hashed[row, buckets[gram]] += weight
    found = []
    for start in range(0, len(texts), _BLOCK):
        likeness = hashed[start : start + _BLOCK] @ hashed.T  # an upper bound: hashing only adds
        for i, j in zip(*np.nonzero(likeness >= threshold - 1e-4), strict=True):
            a, b = int(i) + start, int(j)
            if a < b and (exact := _cosine(vectors[a], vectors[b])) >= threshold:
                found.append((a, b, exact))
    return sorted(found, key=lambda pair: (-pair[2], pair[0], pair[1]))


def _grams(text: str) -> Counter[str]:
    single = words(text) or [text.strip()]
    return Counter([*single, *(f"{a} {b}" for a, b in itertools.pairwise(single))])


def _weighted(bags: Sequence[Counter[str]]) -> list[dict[str, float]]:
    """Unit vectors of weight count * log(1 + N / texts that hold it)."""
    holders = Counter(gram for grams in bags for gram in grams)
    weighted = []
    for grams in bags:
        vector = {gram: n * math.log(1 + len(bags) / holders[gram]) for gram, n in grams.items()}
        length = math.sqrt(sum(weight * weight for weight in vector.values()))
        weighted.append({gram: weight / length for gram, weight in vector.items()})
    return weighted


def _cosine(a: dict[str, float], b: dict[str, float]) -> float:
    return min(1.0, sum(weight * b[gram] for gram, weight in a.items() if gram in b))
