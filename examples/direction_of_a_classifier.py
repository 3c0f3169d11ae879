"""A direction of one's own: scikit-learn's weights on stored activations, kept under a name and used in an expression.

Needs a store with activations of the concept at that layer: `make discover`, or examples/discover.py.
"""

import sys

from sklearn.linear_model import LogisticRegression

import steering_core as steer

store, concept, layer = sys.argv[1] if len(sys.argv) > 1 else None, "sentiment", 15
x, positive = steer.activations(concept, layer, split="train", store=store).numpy()
classifier = LogisticRegression(max_iter=1000).fit(x, positive)

with steer.open_model("smollm2-135m") as model:
    mine = steer.Vector.from_numpy(model, classifier.coef_, layer=layer, name="glad-probe")
    steer.save_vector(model, mine, store=store)
    asked = "Tell me about your day."
    print(steer.generate(model, asked, "30%*glad-probe", max_tokens=12, store=store))
