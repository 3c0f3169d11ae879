# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # My own direction from scikit-learn, and a dose response
#
# A steering vector is a direction in a model's residual stream. Here it comes from a classifier: logistic regression
# that tells formal from casual answers. Does it also *steer*? A dose response on held-out questions says so, beside
# random directions of the same length.

# %%
import numpy as np
from sklearn.linear_model import LogisticRegression

import steering_core as steer

STORE = "store"  # a folder beside this notebook; what lies in it is not computed again
LAYER = 15  # of 30, counted from 0
model = steer.open_model("smollm2-135m")
model

# %% [markdown]
# ## Activations as arrays
#
# `formality` is one of the concepts that come with steerflow: 68 questions, each with a formal and a casual answer. The
# open model reads what the store lacks. Splits are fixed by content, so pairs for testing stay out of training.

# %%
train, validation = (
    steer.activations("formality", LAYER, model=model, split=split, store=STORE) for split in ("train", "validation")
)
train

# %%
train.pandas()[["pair_id", "side", "split", "position", "layer", "residual_norm"]].head(4)

# %% [markdown]
# ## A classifier, and its weights as a vector

# %%
x, formal = train.numpy()
mean, scale = x.mean(axis=0), x.std(axis=0)
classifier = LogisticRegression(C=0.01, max_iter=1000).fit((x - mean) / scale, formal)
held_out, held_out_formal = validation.numpy()
print(f"accuracy on held-out pairs: {classifier.score((held_out - mean) / scale, held_out_formal):.2f}")

# %% [markdown]
# The weights belong to standardised activations; divided by the scale they are a direction of the stream itself. A
# vector remembers its model and layer. Its length does not matter: a *dose* is its strength relative to the stream's
# norm.

# %%
mine = steer.Vector.from_numpy(model, classifier.coef_ / scale, layer=LAYER, name="my-formality")
mine = steer.save_vector(model, mine, store=STORE)
mine

# %% [markdown]
# How far is it from the simplest direction there is, the difference of the two means?

# %%
difference = x[formal].mean(axis=0) - x[~formal].mean(axis=0)
float(mine.direction @ difference / np.linalg.norm(mine.direction) / np.linalg.norm(difference))

# %% [markdown]
# ## The dose response
#
# `effect` is how many nats per token the vector moves held-out questions towards their formal answers and away from
# their casual ones (0.69 doubles a probability). `kl` is what it does to the next token after prompts that have nothing
# to do with formality. The grey points are random directions at the same dose.

# %%
response = steer.dose_sweep(
    model, mine, "formality", doses=[-0.4, -0.2, 0.1, 0.2, 0.4], items=12, controls=1, store=STORE, progress=False
)
response.chart()

# %%
response

# %% [markdown]
# ## One dose, reported on questions that nobody chose it on
#
# The choice is made on the validation split: the strongest dose whose damage stays below 0.3 nats. What it does is then
# measured on the test split.

# %%
allowed = [row for row in response if row["kind"] == "candidate" and row["kl"] < 0.3]
chosen = max(allowed, key=lambda row: row["effect"])["dose"]
trial = steer.dose_sweep(
    model, mine, "formality", doses=[chosen], split="test", items=12, controls=3, store=STORE, progress=False
)
steered = next(row for row in trial if row["kind"] == "candidate")
low, high = steered["effect_low"], steered["effect_high"]
print(f"dose {chosen:.2f} on test items: {steered['effect']:+.2f} nats [{low:+.2f}, {high:+.2f}]")
print(f"over the best of 3 random directions: {steered['over_controls']:+.2f} nats, p = {steered['p_value']:.2g}")

# %% [markdown]
# ## And in words
#
# The vector was saved under its name, so expressions, the command line and the explorer know it:
# `steer generate smollm2-135m 'PROMPT' --steer '20%*my-formality' --store store`.

# %%
question = "Can you come to my party on Saturday?"
for dose in (-chosen, 0, chosen):
    print(f"{dose:+.2f}", steer.generate(model, question, mine, dose=dose, max_tokens=24))

# %%
model.close()
