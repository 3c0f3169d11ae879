"""Specs: what a run should do, as one YAML file."""

import datetime
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from steering_core.activations.sites import checked_position
from steering_core.concepts.concept import MAX_ROWS
from steering_core.foundation.bounds import (
    LEAST_STRENGTH,
    MAX_ALPHA,
    MAX_BOOTSTRAP,
    MAX_CONTROLS,
    MAX_DOSE,
    MAX_EXPRESSION,
    MAX_EXPRESSIONS,
    MAX_KL,
    MAX_LAYERS,
    MAX_NAME,
    MAX_NAMES,
    MAX_NEW_TOKENS,
    MAX_PROMPTS,
    MAX_REDRAWS,
    MAX_SAMPLES,
    MAX_STRENGTHS,
    Layer,
    MaxTokens,
    Seed,
    Temperature,
    Within,
    possible_dose,
    strong_enough,
)
from steering_core.foundation.errors import (
    InterventionError,
    PositionUnknown,
    PromptError,
    SettingError,
    SpecError,
    VectorError,
)
from steering_core.foundation.judging import JudgeSpec
from steering_core.foundation.keys import content_key
from steering_core.foundation.sequences import repeated
from steering_core.foundation.sizes import parse_size
from steering_core.foundation.validation import Strict, counted, shown
from steering_core.interventions.change import Phase
from steering_core.interventions.parsing import parse
from steering_core.models.chat_template import checked_arguments
from steering_core.statistics.metric_names import DEFAULT_METRICS, JUDGED, METRICS, RUBRIC
from steering_core.vectors.methods import method_name

Listed = TypeVar("Listed")
Number = TypeVar("Number")
Word = TypeVar("Word")


def branch(value: object) -> str:
    """Which branch of `OneOf` a value belongs to: a text to the word. So an error is of one branch, not of both."""
    return "[word]" if isinstance(value, str) else "[other]"


def distinct(values: tuple[Listed, ...]) -> tuple[Listed, ...]:
    """The values, unless one of them stands twice; then ValueError."""
    if twice := repeated(values):
        raise ValueError(f"{shown(twice[0])} stands here twice: name it once")
    return values


Dose = Annotated[float, Within(-MAX_DOSE, MAX_DOSE), BeforeValidator(possible_dose), AfterValidator(strong_enough)]
Alpha = Annotated[float, Within(-MAX_ALPHA, MAX_ALPHA), AfterValidator(strong_enough)]
OneOf = Annotated[Annotated[Word, Tag("[word]")] | Annotated[Number, Tag("[other]")], Discriminator(branch)]
SomeLayers = Annotated[tuple[Layer, ...], Field(min_length=1, max_length=MAX_LAYERS)]
Layers = OneOf[Literal["all"], SomeLayers]
StrengthList = Annotated[tuple[Number, ...], Field(max_length=MAX_STRENGTHS), AfterValidator(distinct)]
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME)]
Names = Annotated[tuple[Name, ...], Field(min_length=1, max_length=MAX_NAMES), AfterValidator(distinct)]
SomeNames = Annotated[tuple[Name, ...], Field(max_length=MAX_NAMES), AfterValidator(distinct)]


def _fitting_template(arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return checked_arguments(arguments)
    except PromptError as error:
        raise ValueError(str(error)) from None


_Word = Annotated[str, Field(max_length=1000)]
_Argument = bool | Annotated[int, Within(-1e9, 1e9)] | Annotated[float, Within(-1e9, 1e9)] | _Word | datetime.date
TemplateArguments = Annotated[dict[_Word, _Argument], Field(max_length=32), AfterValidator(_fitting_template)]


def memory_size(text: str) -> str:
    """The text, if it is a size of memory; otherwise ValueError."""
    try:
        parse_size(text, "memory")
    except SettingError as fault:
        raise ValueError(str(fault)) from None
    return text


def readable(expression: str) -> str:
    """The expression, if it can be read; otherwise ValueError, with a caret under the fault."""
    try:
        parse(expression)
    except InterventionError as fault:
        raise ValueError(str(fault)) from None
    return expression


Readable = Annotated[str, Field(max_length=MAX_EXPRESSION), AfterValidator(readable)]


class ActivationsSpec(Strict, fault=SpecError):
    """Which activations to extract: at which layers, read at which position of each prompt.

    A position is last, mean, response, or a span of tokens as Python slices count them (`span:-5:`).
    """

    layers: Layers = "all"
    position: Annotated[str, Field(max_length=MAX_NAME)] = "response"

    @field_validator("position")
    @classmethod
    def _one_row_a_prompt(cls, position: str) -> str:
        if position == "all":
            raise ValueError(
                "vectors need one row a prompt; `steer extract --position all` stores every token's, as does "
                "activations(…, position='all') in Python"
            )
        try:
            return checked_position(position)
        except PositionUnknown as error:
            raise ValueError(str(error)) from None


class VectorsSpec(Strict, fault=SpecError):
    """Which methods derive vectors, how many controls stand beside each, how often pairs are redrawn.

    A method is one of steerflow's, or FILE.py:FUNCTION for one of your own (`steering_core.vectors.methods`). Vectors
    of the `library`, by name or key, stand in the grid beside them, each alone; `methods: []` leaves them, and the
    grid's expressions, by themselves.

    Trained methods (`preference`, …) are trained at `train_layers`: `auto` is the two of the grid's layers at which the
    mean difference tells held-out pairs apart best. A joint method (`joint_preference`) trains at all of
    `train_layers` together: `auto` is at most five of the grid's.

    `controls` random directions stand beside each vector, and as many that the method finds with shuffled labels.
    `quality_draws` redraws training pairs to say how stable each vector is; 0 leaves qualities out.
    """

    methods: SomeNames = ("mean_difference",)
    library: SomeNames = ()
    train_layers: OneOf[Literal["auto"], SomeLayers] = "auto"
    controls: Annotated[int, Within(0, MAX_CONTROLS)] = 3
    quality_draws: Annotated[int, Within(0, MAX_REDRAWS)] = 100

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for name in methods:
                method_name(name)
        except VectorError as error:
            raise ValueError(str(error)) from None
        return methods


class GenerationsSpec(Strict, fault=SpecError):
    """The grid of layers and strengths, relative (`doses`) or absolute (`alphas`), and how texts are sampled.

    Where any strength is positive, the search is for more of the concept, and negative ones are there for the dose
    response. Where all are negative, it is for less. Each of `prompts` is answered `samples` times, with seeds from
    `seed` on.

    `expressions` are candidates beside the grid, in the form that `steer generate --steer` takes. They are judged by
    how much more of the concept they bring, whatever the signs of their strengths. Texts are sampled for
    the `shortlist` best candidates on the items; `all` samples, and measures, the whole grid.
    """

    layers: OneOf[Literal["all", "auto"], SomeLayers] = "auto"
    doses: StrengthList[Dose] | None = None
    alphas: StrengthList[Alpha] | None = None
    expressions: Annotated[tuple[Readable, ...], Field(max_length=MAX_EXPRESSIONS), AfterValidator(distinct)] = ()
    shortlist: OneOf[Literal["all"], Annotated[int, Within(1, MAX_NAMES)]] = 6
    prompts: Annotated[int, Within(1, MAX_PROMPTS)] = 8
    samples: Annotated[int, Within(1, MAX_SAMPLES)] = 2
    max_tokens: MaxTokens = 40
    temperature: Temperature = 0.7
    seed: Seed = 0
    phase: Phase = "generation"

    @property
    def seeds(self) -> range:
        """The seeds of a prompt's texts; one alone without temperature, where all would be the same."""
        return range(self.seed, self.seed + (self.samples if self.temperature else 1))

    @model_validator(mode="after")
    def _one_strength(self) -> "GenerationsSpec":
        if self.doses is not None and self.alphas is not None:
            raise ValueError("give doses or alphas, not both")
        return self

    @field_validator("doses", "alphas")
    @classmethod
    def _not_zero(cls, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if values is not None and (not values or 0 in values):
            raise ValueError("list at least one strength, and leave out 0: it is always there as a control")
        return values


class ScoresSpec(Strict, fault=SpecError):
    """What is measured, on how many held-out items, neutral prompts and neutral answers, and the damage bounds.

    `bootstrap` is how often neutral answers are redrawn for the interval of a dose, with `seed`.

    `draws` of permuted labels, each with its opposite, are what a candidate's rank is told by (`evaluation.chance`).

    `side_effects` says on which other concepts' items a chosen candidate is measured: `auto` are the spec's other
    concepts or, where it has one alone, the shipped ones; `shipped`, `none` and names say it themselves.

    A candidate within bounds raises perplexity no further than `max_perplexity_ratio` times, and moves the next token
    after neutral prompts no further than `max_kl` nats. `generated_kl` is over a text's first `kl_tokens` tokens. A
    language model judges texts where `judge` names one. `capabilities` are sets, shipped or files, on which the chosen
    candidate's accuracy is held against the unsteered model's. A drop that is surely beyond `max_drop`, as a share of
    the items, is said with the verdict.
    """

    metrics: Names = DEFAULT_METRICS
    items: Annotated[int, Within(1, MAX_ROWS)] | None = None
    neutral: Annotated[int, Within(1, MAX_PROMPTS)] = 12
    answers: Annotated[int, Within(1, MAX_PROMPTS)] = 24
    kl_tokens: Annotated[int, Within(1, MAX_NEW_TOKENS)] = 32
    draws: Annotated[int, Within(1, MAX_CONTROLS)] = 19
    bootstrap: Annotated[int, Within(100, MAX_BOOTSTRAP)] = 2000
    max_perplexity_ratio: Annotated[float, Within(1.001, 1_000)] = 1.5
    max_kl: Annotated[float, Within(LEAST_STRENGTH, MAX_KL)] = 1.0
    capabilities: OneOf[Literal["none", "all"], Names] = "none"
    max_drop: Annotated[float, Within(0, 1)] = 0.05
    seed: Seed = 0
    side_effects: OneOf[Literal["auto", "shipped", "none"], Names] = "auto"
    judge: JudgeSpec | None = None

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics, with the judge's where there is a judge."""
        return tuple(dict.fromkeys((*self.metrics, *self._judged)))

    @model_validator(mode="after")
    def _judged_by_someone(self) -> "ScoresSpec":
        asked = [metric for metric in self.metrics if metric in JUDGED]
        if asked and not self.judge:
            raise ValueError(f"the metric {asked[0]} needs a judge: add judge: {{model: NAME, endpoint: http://…/v1}}")
        if unasked := [metric for metric in asked if metric not in self._judged]:
            raise ValueError(f"the metric {unasked[0]} is none of this judge's: it gives {', '.join(self._judged)}")
        return self

    @property
    def _judged(self) -> tuple[str, ...]:
        """The metrics that the judge gives: its rubric's, or that of a question of your own."""
        if not self.judge:
            return ()
        return ("judge",) if self.judge.prompt else RUBRIC

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        known = [name for name, metric in METRICS.items() if metric.reported]
        if unknown := [m for m in metrics if m not in known]:
            raise ValueError(f"unknown metric {', '.join(unknown)}: there are {', '.join(known)}")
        if "propensity" not in metrics:
            raise ValueError("add propensity: it is what candidates are compared by, and without it none can be chosen")
        return metrics


class Spec(Strict, fault=SpecError):
    """One run: models x concepts, and how each stage goes about it. All but models and concepts has a default.

    Paths in it are looked for beside the spec's file, then in the working directory.

    `memory` bounds what the run's process holds (12GiB); it changes no result, and so is no part of the key.

    `template` holds arguments for the models' chat templates: {enable_thinking: true}, {date: 2026-01-31}, ….
    `allow_code` names those of the models, all of them local folders, whose own Python may run; `steer run` and the
    other verbs heed it, flows do not. Raises SpecError with every fault where Python makes one.
    """

    name: Name = "run"
    models: Names
    concepts: Names
    activations: ActivationsSpec = ActivationsSpec()
    vectors: VectorsSpec = VectorsSpec()
    generations: GenerationsSpec = GenerationsSpec()
    scores: ScoresSpec = ScoresSpec()
    allow_code: Annotated[tuple[Name, ...], Field(max_length=MAX_NAMES)] = ()
    template: TemplateArguments = {}
    memory: Annotated[str, Field(max_length=MAX_NAME), AfterValidator(memory_size)] | None = None

    def __repr__(self) -> str:
        of = ", ".join((counted(len(self.models), "model"), counted(len(self.concepts), "concept")))
        grid = {"methods": self.vectors.methods, "library": self.vectors.library}
        said = [f"{what} {', '.join(names)}" for what, names in grid.items() if names]
        return f"<Spec {self.name}: {', '.join([of, *said])}>"

    def __str__(self) -> str:
        return repr(self)

    @property
    def memory_limit(self) -> int | None:
        """The bytes of `memory`."""
        return parse_size(self.memory, "memory") if self.memory else None

    @property
    def key(self) -> str:
        """Content key of the whole spec, but for `allow_code` and `memory`, which change no number."""
        said = self.model_dump(mode="json", exclude={"allow_code", "memory"})
        # What specs of before 0.2 did not have is left out where it is as it was then, so that they keep their keys.
        if not self.template:
            del said["template"]
        if said["vectors"]["train_layers"] == "auto":
            del said["vectors"]["train_layers"]
        if not self.vectors.library:
            del said["vectors"]["library"]
        if said["scores"]["side_effects"] == "auto":
            del said["scores"]["side_effects"]
        if self.scores.capabilities == "none":  # then `max_drop` means nothing
            del said["scores"]["capabilities"], said["scores"]["max_drop"]
        return content_key("spec", said)

    @model_validator(mode="after")
    def _has_candidates(self) -> "Spec":
        if not (self.vectors.methods or self.vectors.library or self.generations.expressions):
            raise ValueError(
                "vectors.methods is empty, and nothing else stands in the grid: name a method, a vector of the library "
                "in vectors.library, or an expression in generations.expressions"
            )
        return self

    @model_validator(mode="after")
    def _allowed_are_models(self) -> "Spec":
        if strangers := [name for name in self.allow_code if name not in self.models]:
            raise ValueError(f"allow_code names {', '.join(strangers)}, which is not among models: write it as there")
        return self
