"""A whole run from Python: a small spec as a mapping, its verdict, and its table through SQL."""

import sys

import steering_core as steer

store = sys.argv[1] if len(sys.argv) > 1 else None
report = steer.run(
    {
        "models": ["smollm2-135m"],
        "concepts": ["sentiment"],
        "activations": {"layers": [15]},
        "vectors": {"controls": 1, "quality_draws": 0},
        "generations": {"layers": [15], "doses": [0.3], "shortlist": 1, "prompts": 1, "samples": 1, "max_tokens": 4},
        "scores": {"items": 4, "neutral": 2, "answers": 4, "draws": 5, "bootstrap": 100, "side_effects": "none"},
    },
    store,
)
for recommendation in report["recommendations"]:
    print(recommendation["concept"], recommendation["verdict"], recommendation["reason"], sep=": ")
board = "SELECT control, dose, effect, over_controls FROM leaderboard ORDER BY effect DESC"
print(steer.Store(store).query(board).to_pylist())
