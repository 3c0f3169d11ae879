"""A conversation of several turns under what a store recommends, streamed, beside the same without steering.

Needs a store with a recommendation for the concept: `make discover`, or examples/discover.py.
"""

import sys

import steering_core as steer

store = sys.argv[1] if len(sys.argv) > 1 else None
messages = [
    {"role": "user", "content": "Hello!"},
    {"role": "assistant", "content": "Hello! How can I help?"},
    {"role": "user", "content": "How was the concert in the park?"},
]
with steer.open_model("smollm2-135m") as model:
    recommended = steer.find_vectors(model, "sentiment", store)  # at its layers and strength
    for vectors in (None, recommended):
        for piece in steer.stream(model, messages, vectors, max_tokens=12):
            print(piece, end="", flush=True)
        print()
