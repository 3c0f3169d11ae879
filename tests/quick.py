"""Specs of runs whose numbers nobody reads: each stage works and each measure is taken, on as little as can be.

With the defaults a run on the tiny model takes 6.7 s of CPU, with these 1.6. The measures themselves are held where
their numbers are known (test_known_answer, test_search, test_scorers, test_capabilities, test_side_effects).
"""

from typing import Any

SCORES: dict[str, Any] = {
    "bootstrap": 100,
    "answers": 3,
    "kl_tokens": 4,
    "neutral": 2,
    "draws": 2,
    "side_effects": "none",
}
VECTORS: dict[str, Any] = {"controls": 1, "quality_draws": 4}
SPEC: dict[str, Any] = {"scores": SCORES, "vectors": VECTORS}
