"""The file that `steer concepts new` writes: a concept that loads at once, with a word on what belongs where."""

import json
from typing import Any

import yaml

from steering_core.concepts.concept import SIDES, Concept

SCAFFOLD = """\
# A concept: a behaviour as contrastive pairs. Fill it in, then: steer concepts lint {path}
# What is worth steering with: two sides that say the same about the same thing, in the same length, with the same
# marks, and differ in the concept alone; topics, lengths and forms that vary; nothing that stands on one side only.
name: {name}
description: One sentence; what the positive side is, against what.
chat: true  # prompts and answers go through the model's chat template
card:
  what: What positive and negative mean.
  made: Who wrote it, and how.
  biases: What else differs between the sides.
  licence: MIT
# Two system prompts: what a vector is compared with, and what `steer concepts generate` drafts pairs under.
instructions:
  positive: Answer in the way that the concept names.
  negative: Answer in the opposite way.
# Words typical of either side, for counting them in sampled texts. Optional.
words:
  positive: []
  negative: []
# At least 60. The two answers are matched; each pair has a prompt of its own. 60 % train, 20 % validate, 20 % test.
pairs:
- prompt: How was your weekend?
  positive: An answer that shows the concept.
  negative: The same answer without it.
# At least 12 open prompts that do not ask for the concept: texts are sampled from them.
prompts:
- Tell me about your day.
# At least 40 held-out items, on other topics than the pairs, of which a model chooses an answer. Where the prompt names
# both options, name the matching one first in half of them.
items:
- prompt: What do you think of the new park?
  matching: A short answer that shows it.
  not_matching: A short answer that does not.
"""


def scaffold(name: str, path: str) -> str:
    """The text of a new concept's file."""
    return SCAFFOLD.format(name=json.dumps(name), path=path)  # in quotes: 123 and true are names as well


def placeholders() -> dict[str, Any]:
    """What the scaffold says where its author shall write."""
    given: dict[str, Any] = yaml.safe_load(scaffold("name", "path"))
    return given


def unwritten(concept: Concept) -> list[str]:
    """The sides whose instructions are still the scaffold's, under which a model can only answer anything."""
    own, given = concept.instructions, placeholders()["instructions"]
    return [side for side in SIDES if own is not None and getattr(own, side).strip() == given[side]]
