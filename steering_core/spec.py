"""Specs: what a run should do, as one YAML file."""

from pathlib import Path
from string import Formatter
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from steering_core.activations.names import checked_position
from steering_core.errors import InterventionError, PositionUnknown, SettingError, SpecError, VectorError
from steering_core.interventions.change import Phase
from steering_core.interventions.parsing import parse
from steering_core.keys import MAX_SEED, content_key
from steering_core.library import data_files, did_you_mean
from steering_core.scores.names import DEFAULT_METRICS, METRICS
from steering_core.sizes import parse_size
from steering_core.validation import Strict, checked, read_yaml
from steering_core.vectors.methods import method_name

Layers = Literal["all"] | Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)]
Strengths = tuple[Annotated[float, Field(allow_inf_nan=False)], ...]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]


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


class ActivationsSpec(Strict):
    """Which activations to extract: at which layers, read at which position of each prompt.

    A position is last, mean, response, or a span of tokens as Python slices count them (`span:-5:`).
    """

    layers: Layers = "all"
    position: str = "response"

    @field_validator("position")
    @classmethod
    def _one_row_a_prompt(cls, position: str) -> str:
        if position == "all":
            raise ValueError("vectors need one row a prompt; `steer extract --position all` stores every token's")
        try:
            return checked_position(position)
        except PositionUnknown as error:
            raise ValueError(str(error)) from None


class VectorsSpec(Strict):
    """Which methods derive vectors, how many controls stand beside each, how often pairs are redrawn.

    A method is one of steerflow's, or FILE.py:FUNCTION for one of your own (`steering_core.vectors.methods`).

    `controls` random directions stand beside each vector, and as many that the method finds with shuffled labels.
    `quality_draws` redraws training pairs to say how stable each vector is; 0 leaves qualities out.
    """

    methods: Annotated[tuple[str, ...], Field(min_length=1)] = ("mean_difference",)
    controls: Annotated[int, Field(ge=0, le=100)] = 3
    quality_draws: Annotated[int, Field(ge=0, le=10_000)] = 100

    @field_validator("methods")
    @classmethod
    def _known(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for name in methods:
                method_name(name)
        except VectorError as error:
            raise ValueError(str(error)) from None
        return methods


class GenerationsSpec(Strict):
    """The grid of layers and strengths, relative (`doses`) or absolute (`alphas`), and how texts are sampled.

    Each of `prompts` is answered `samples` times, with seeds from `seed` on.

    `expressions` are candidates beside the grid, in the form that `steer generate --steer` takes. Texts are sampled for
    the `shortlist` best candidates on the items; `all` samples, and measures, the whole grid.
    """

    layers: Literal["auto"] | Layers = "auto"
    doses: Strengths | None = None
    alphas: Strengths | None = None
    expressions: tuple[Annotated[str, AfterValidator(readable)], ...] = ()
    shortlist: Annotated[int, Field(ge=1)] | Literal["all"] = 6
    prompts: Annotated[int, Field(ge=1)] = 8
    samples: Annotated[int, Field(ge=1)] = 2
    max_tokens: Annotated[int, Field(ge=1)] = 40
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.7
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


JUDGE_PROMPT = """\
Below is a language model's answer. Look for this in it: {concept}
Where that names two sides, the first is meant.

Question: {prompt}
Answer: {text}

How far does it show? Reply with one whole number from 0 (not at all) to 10 (completely), and nothing else."""


class JudgeSpec(Strict):
    """A language model that rates texts: a local one, or one behind an OpenAI-compatible `endpoint` (http://…/v1).

    `prompt` asks for a number from 0 to 10, and holds {text} and, where wanted, {prompt} and {concept}. `key_from` is
    the environment's variable that holds the endpoint's key; the key itself is never written into a spec.
    """

    model: Annotated[str, Field(min_length=1)]
    endpoint: Annotated[str, Field(pattern=r"^https?://")] | None = None
    prompt: str = JUDGE_PROMPT
    max_tokens: Annotated[int, Field(ge=1, le=4096)] = 16
    key_from: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] = "OPENAI_API_KEY"
    retries: Annotated[int, Field(ge=0, le=10)] = 3
    timeout: Annotated[float, Field(gt=0)] = 120.0
    at_once: Annotated[int, Field(ge=1, le=64)] = 4

    @field_validator("prompt")
    @classmethod
    def _fillable(cls, prompt: str) -> str:
        try:
            places = {name for _, name, _, _ in Formatter().parse(prompt) if name is not None}
        except ValueError as error:
            raise ValueError(f"is not a template ({error}): write {{{{ and }}}} for braces") from None
        if "text" not in places or places - {"text", "prompt", "concept"}:
            raise ValueError("must hold {text}, may hold {prompt} and {concept}, and {{ and }} for braces")
        return prompt


class ScoresSpec(Strict):
    """What is measured, on how many held-out items and neutral prompts, the damage bounds, and how intervals are drawn.

    A candidate within bounds raises perplexity no further than `max_perplexity_ratio` times, and moves the next token
    after neutral prompts no further than `max_kl` nats. A language model judges texts where `judge` names one.
    """

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = DEFAULT_METRICS
    items: Annotated[int, Field(ge=1)] | None = None
    neutral: Annotated[int, Field(ge=1)] = 12
    bootstrap: Annotated[int, Field(ge=100)] = 2000
    max_perplexity_ratio: Annotated[float, Field(gt=1)] = 1.5
    max_kl: Annotated[float, Field(gt=0)] = 1.0
    seed: Seed = 0
    judge: JudgeSpec | None = None

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics, with the judge's where there is a judge."""
        return tuple(dict.fromkeys((*self.metrics, "judge"))) if self.judge else self.metrics

    @model_validator(mode="after")
    def _judged_by_someone(self) -> "ScoresSpec":
        if "judge" in self.metrics and self.judge is None:
            raise ValueError("the metric judge needs a judge: add judge: {model: NAME, endpoint: http://…/v1}")
        return self

    @field_validator("metrics")
    @classmethod
    def _known(cls, metrics: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [m for m in metrics if m not in METRICS]:
            raise ValueError(f"unknown metric {', '.join(unknown)}: there are {', '.join(METRICS)}")
        if "propensity" not in metrics:
            raise ValueError("add propensity: it is what candidates are compared by, and without it none can be chosen")
        return metrics


class Spec(Strict):
    """One run: models x concepts, and how each stage goes about it. All but models and concepts has a default.

    `memory` bounds what the run's process holds (12GiB); it changes no result, and so is no part of the key.
    """

    name: str = "run"
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    concepts: Annotated[tuple[str, ...], Field(min_length=1)]
    activations: ActivationsSpec = ActivationsSpec()
    vectors: VectorsSpec = VectorsSpec()
    generations: GenerationsSpec = GenerationsSpec()
    scores: ScoresSpec = ScoresSpec()
    memory: Annotated[str, AfterValidator(memory_size)] | None = None

    @property
    def memory_limit(self) -> int | None:
        """The bytes of `memory`."""
        return parse_size(self.memory, "memory") if self.memory else None

    @property
    def key(self) -> str:
        """Content key of the whole spec."""
        return content_key("spec", self.model_dump(mode="json", exclude={"memory"}))


def load_spec(name: str | Path) -> Spec:
    """The spec in the YAML file `name`, or of that name. Raises SpecError with every fault at once."""
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        known = data_files("specs")
        if str(name) not in known:
            raise SpecError(f"there is no spec {str(name)!r}; {did_you_mean(str(name), known)}")
        path = known[str(name)]
    return checked(Spec, read_yaml(path, SpecError), f"the spec {path}", SpecError)
