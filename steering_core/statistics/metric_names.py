"""What each metric and score is, as data: name, subjects, unit and scale. `scores` measures and sums them up.

A spec's check, the summary's scales, the leaderboard's columns and the charts' axes read it here.
"""

from dataclasses import dataclass
from typing import Literal

Subjects = Literal["items", "neutral prompts", "neutral answers", "texts"]
Scale = Literal["linear", "logarithmic"]


@dataclass(frozen=True)
class Metric:
    """One number in `unit` for each of its `subjects`; means of a logarithmic one are geometric.

    What it means stands in `foundation/words.yaml`, under the name of what the leaderboard shows of it.

    `change` is the score that compares it with the unsteered model's on the same subjects (None: no score does): the
    difference, or on a logarithmic scale the ratio. One that is not `reported` serves the search alone.
    """

    name: str
    subjects: Subjects
    unit: str
    scale: Scale = "linear"
    change: str | None = None
    reported: bool = True


METRICS: dict[str, Metric] = {}


def declare(metric: Metric) -> Metric:
    """Make a metric known by its name."""
    METRICS[metric.name] = metric
    return metric


for _metric in (
    Metric("propensity", "items", "nats per token", change="effect"),
    Metric("first_order", "items", "nats per token", reported=False),
    Metric("kl", "neutral prompts", "nats"),
    Metric("generated_kl", "texts", "nats per token"),
    Metric("generated_kl_p95", "texts", "nats"),
    Metric("damage", "neutral answers", "nats per token"),
    Metric("perplexity", "texts", "tokens", "logarithmic", "perplexity_ratio"),
    Metric("repetition", "texts", "share"),
    Metric("distinct_2", "texts", "share"),
    Metric("diverged", "texts", "share"),
    Metric("words", "texts", "from -1 to 1"),
    Metric("probe", "texts", "probability"),
    Metric("judge", "texts", "from 0 to 1"),
    Metric("judge_concept", "texts", "from 0 to 2"),
    Metric("judge_instruction", "texts", "from 0 to 2"),
    Metric("judge_fluency", "texts", "from 0 to 2"),
    Metric("judge_harmonic", "texts", "from 0 to 2"),
):
    declare(_metric)

RATINGS = ("judge_concept", "judge_instruction", "judge_fluency")  # one question of the judge's rubric each
RUBRIC = (*RATINGS, "judge_harmonic")
JUDGED = ("judge", *RUBRIC)  # what a language model gives
REPORTED = ("generated_kl", "generated_kl_p95")  # on test alone, since nothing is chosen by them and they cost passes
DEFAULT_METRICS = (
    "propensity", "kl", "generated_kl", "generated_kl_p95", "damage", "perplexity", "repetition", "distinct_2",
    "diverged", "words", "probe",
)  # fmt: skip


def changes() -> dict[str, str]:
    """Each metric's name that a score compares with the unsteered model's, and that score's name."""
    return {metric.name: metric.change for metric in METRICS.values() if metric.change}


def scores() -> list[str]:
    """What the leaderboard shows of each metric, in their order: its change where there is one, else its mean."""
    return [metric.change or metric.name for metric in METRICS.values() if metric.reported]


def unit_of(score: str) -> str:
    """The unit of a metric, or of the difference that a change is."""
    return next(metric.unit for metric in METRICS.values() if score in (metric.name, metric.change))


def logarithmic(score: str) -> bool:
    """Whether the metric or change of that name is averaged as a logarithm; other names are linear."""
    return any(m.scale == "logarithmic" and score in (m.name, m.change) for m in METRICS.values())


def of_subjects(name: str, subjects: Subjects) -> str:
    """`name`, where a metric of those subjects is declared so. Raises ValueError where it is not."""
    declared = METRICS.get(name)
    if declared is None or declared.subjects != subjects:
        raise ValueError(f"{name} is not declared as a metric of {subjects}: add it to statistics/metric_names.py")
    return name
