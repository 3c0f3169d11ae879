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
# # From a CAA file to a proven vector
#
# Contrastive activation addition (CAA, Rimsky et al. 2023) starts from questions with two choices, one of which shows
# a behaviour. Such files lie in many repositories. This notebook takes one, finds out that it does not fit a small
# model as it is, mends that, and ends with a vector that is held against chance.

# %%
import json
import re
from pathlib import Path

import pandas as pd
from sklearn.metrics import roc_auc_score

import steering_core as steer

STORE = "store"  # a folder beside this notebook; what lies in it is not computed again
LAYER = 21  # of 30, counted from 0; leave `layers` out of the spec below, and five are tried
pd.set_option("display.max_colwidth", 200)

rows = json.loads(Path("cheerful_ab.json").read_text())
pd.DataFrame(rows).head(3)

# %% [markdown]
# A file in this form is a concept as it is. Which rows train and which test, their contents fix.

# %%
letters = steer.load_concept("cheerful_ab.json")
print(len(letters.pairs), "pairs to derive a vector from,", len(letters.items), "held-out items to measure it on")
letters.pairs[0]

# %% [markdown]
# ## Does the model know what the letters stand for?
#
# A direction is found at the answer's tokens, and here the answer is a letter. If the model has the content of a
# choice in mind when it reads `(A)`, then the difference of means tells held-out pairs apart. 0.5 is chance, 1 is
# perfect.


# %%
def held_out_auc(concept: str) -> float:
    """How well the difference of the training pairs' means tells the sides of the other pairs apart."""
    found = steer.activations(concept, LAYER, model=model, store=STORE)
    x, shows = found.numpy()
    train = (found.pandas()["split"] == "train").to_numpy()
    direction = x[train & shows].mean(axis=0) - x[train & ~shows].mean(axis=0)
    return float(roc_auc_score(shows[~train], x[~train] @ direction))


model = steer.open_model("smollm2-135m")
print(f"letters: {held_out_auc('cheerful_ab.json'):.2f}")

# %% [markdown]
# Hardly: a model of 135 million parameters reads a letter as a letter. Larger models do better. But the choices' texts
# are in the file as well, so the answers can be sentences.

# %%
CHOICE = re.compile(r"^ \((\w)\) (.*)$", re.MULTILINE)


def spelt_out(row: dict[str, str]) -> dict[str, str]:
    """The row with the text of each choice in the place of its letter."""
    question, _, choices = row["question"].partition("\n\nChoices:\n")
    text = {f"({letter})": said for letter, said in CHOICE.findall(choices)}
    return {"question": question} | {name: text[row[name]] for name in row if name != "question"}


Path("cheerful.json").write_text(json.dumps([spelt_out(row) for row in rows], indent=1, ensure_ascii=False))
print(f"sentences: {held_out_auc('cheerful.json'):.2f}")
model.close()
pd.DataFrame(map(spelt_out, rows)).head(3)

# %% [markdown]
# ## Telling apart is not steering
#
# What reads well need not steer. A run derives the vector, tries strengths on validation items, chooses one, and
# reports it on test items beside controls: random directions, shuffled labels, and no steering. Its verdict is the
# rank among searches whose labels a coin decided. Sizes are small here, so that this takes a minute or two on two
# cores.

# %%
report = steer.run(
    {
        "models": ["smollm2-135m"],
        "concepts": ["cheerful.json"],
        "activations": {"layers": [LAYER]},
        "vectors": {"controls": 1, "quality_draws": 20},
        "generations": {
            "layers": [LAYER],
            "doses": [0.15, 0.3],
            "shortlist": 1,
            "prompts": 4,
            "samples": 1,
            "max_tokens": 20,
        },
        "scores": {
            "items": 12,
            "neutral": 4,
            "answers": 4,
            "draws": 10,
            "bootstrap": 200,
            "side_effects": "none",
        },
    },
    STORE,
    progress=False,
)
report

# %%
steer.dose_response("cheerful", store=STORE)

# %% [markdown]
# ## The evidence
#
# Everything that was measured is SQL. `effect` is in nats per token (0.69 doubles a probability); `over_controls` is
# what remains of it over the best random or shuffled direction at the same damage; `perplexity_ratio` is how much less
# plausible the steered texts are to the untouched model.

# %%
store = steer.Store(STORE)
store.query(
    "SELECT coalesce(control, 'candidate') AS what, dose, effect, over_controls, kl, perplexity_ratio, n "
    "FROM leaderboard WHERE concept = 'cheerful' AND split = 'test' ORDER BY effect DESC"
).to_pandas().round(3)

# %%
steer.token_projection("cheerful", store=STORE)

# %% [markdown]
# ## Use it
#
# The concept's name now means the recommendation, with its layer and its strength, here and on the command line:
# `steer chat smollm2-135m --vector cheerful --store store`.

# %%
with steer.open_model("smollm2-135m") as model:
    (recommended,) = steer.find_vectors(model, "cheerful", STORE)
    base, steered = steer.compare(
        model, "How was the concert in the park?", [None, "cheerful"], max_tokens=30, store=STORE
    )
print(recommended)
print("without:", base)
print("with:   ", steered)
