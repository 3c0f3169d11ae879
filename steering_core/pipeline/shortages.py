"""What somebody asks of a concept that has less of it: held-out items and open prompts, in sentences."""

from collections.abc import Mapping, Sequence

from steering_core.candidates.generations import asked
from steering_core.concepts import Concept, Split
from steering_core.foundation.validation import counted
from steering_core.spec import Spec

HELD_OUT: tuple[Split, Split] = ("validation", "test")


def shortages(spec: Spec, concept: Concept) -> list[str]:
    """A sentence for each number of items or open prompts that `spec` itself names and `concept` falls short of.

    A concept without any is not told of here: what needs them says so.
    """
    items = lack_of_wanted_items(concept, spec.scores.items, HELD_OUT) if concept.items else ""
    n = spec.generations.prompts if concept.prompts and "prompts" in spec.generations.model_fields_set else 0
    prompts = _short(concept, "open prompt", n, {split: len(asked(concept, split, n)) for split in HELD_OUT})
    return [said for said in (items, prompts) if said]


def lack_of_wanted_items(concept: Concept, n: int | None, splits: Sequence[Split]) -> str:
    """That a concept has fewer than `n` held-out items in one of `splits`; empty where it has as many in each."""
    return _short(concept, "held-out item", n or 0, {split: len(concept.items_in(split)) for split in splits})


def _short(concept: Concept, noun: str, n: int, there: Mapping[Split, int]) -> str:
    if min(there.values()) >= n:
        return ""
    has = " and ".join(f"{found} in the {split} split" for split, found in there.items())
    return f"{concept.name}: {counted(n, noun)} are asked for, and it has {has}: add some, or ask for fewer"
