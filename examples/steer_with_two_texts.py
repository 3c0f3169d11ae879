"""A vector from two lists of texts, and what it does at a few doses. Needs no store."""

import steering_core as steer

GLAD = ["I feel wonderful today.", "What a delightful morning!", "Everything is going so well."]
SAD = ["I feel terrible today.", "What a miserable morning!", "Everything is going so badly."]

with steer.open_model("smollm2-135m") as model:
    glad = steer.contrast(model, GLAD, SAD, layer=15)
    print(model, glad, sep="\n")
    for dose in (-0.3, 0.0, 0.3):
        print(f"{dose:+.1f}", steer.generate(model, "Tell me about your day.", glad, dose=dose, max_tokens=12))
