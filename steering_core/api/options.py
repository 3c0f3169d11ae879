"""The options that `generate`, `stream` and `compare` share: strength, sampling, system prompt and store."""

import math
import numbers
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypedDict, get_args

from steering_core.concepts import Concept, Split
from steering_core.foundation.bounds import whole_number
from steering_core.foundation.errors import ConceptError, QueryError, SamplingError
from steering_core.foundation.keys import MAX_SEED
from steering_core.foundation.suggestions import did_you_mean
from steering_core.interventions.change import Phase

StorePath = str | os.PathLike[str] | None


def concept_or_name(given: Any) -> Concept | str:
    """A `Concept`, or the name or the path of one. Raises ConceptError for what is neither, such as a list of texts."""
    if isinstance(given, Concept):
        return given
    if isinstance(given, str | os.PathLike):
        return os.fspath(given)
    raise ConceptError(
        f"a concept is its name, the path of its file, or a Concept, not a {type(given).__name__}: of texts of your "
        "own make one, Concept(name='mine', pairs=[{'positive': 'a text', 'negative': 'another'}, …])"
    )


def check_split(split: Any) -> None:
    """Raise QueryError for what is no split."""
    if split not in get_args(Split):
        raise QueryError(f"there is no split {split!r}: name one of {', '.join(get_args(Split))}")


@dataclass(frozen=True)
class Sampling:
    """How texts are drawn: greedy at temperature 0, else with the seed; and where they end.

    Raises SamplingError for what means nothing.
    """

    max_tokens: int = 100
    temperature: float = 0.0
    seed: int = 0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "max_tokens", whole_number(self.max_tokens, "max_tokens", SamplingError, 1))
        object.__setattr__(self, "seed", whole_number(self.seed, "seed", SamplingError, 0, MAX_SEED))
        if not (isinstance(self.temperature, numbers.Real) and 0 <= self.temperature < math.inf):
            raise SamplingError(f"temperature is {self.temperature!r}: give a number from 0 (greedy) on")
        if isinstance(self.stop, str) or not all(isinstance(text, str) and text for text in self.stop):
            raise SamplingError(f"stop is {self.stop!r}: give a tuple of texts, such as ('\\n\\n',)")


DEFAULT = Sampling()


class SamplingOptions(TypedDict, total=False):
    """How texts are drawn (`Sampling`, or its parts), and what the model reads before them."""

    sampling: Sampling
    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...]
    system: str | None
    chat: bool | None
    store: StorePath


class Options(SamplingOptions, total=False):
    """Options of sampling, the strength of a vector (alpha times it, or a dose), and the phase in which it acts."""

    alpha: float | None
    dose: float | None
    phase: Phase


def check_options(given: Mapping[str, object], known: type) -> None:
    """Raise TypeError for an option that `known`, a TypedDict, does not have."""
    names = list(known.__annotations__)
    if unknown := [name for name in given if name not in names]:
        raise TypeError(f"there is no option {unknown[0]!r}: {did_you_mean(unknown[0], names)}")


def sampling_of(given: SamplingOptions) -> Sampling:
    """The sampling that the options ask for: `sampling`, with the parts that are named beside it."""
    base = given.get("sampling", DEFAULT)
    return replace(
        base,
        max_tokens=given.get("max_tokens", base.max_tokens),
        temperature=given.get("temperature", base.temperature),
        seed=given.get("seed", base.seed),
        stop=given.get("stop", base.stop),
    )
