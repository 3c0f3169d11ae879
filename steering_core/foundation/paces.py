"""The pace of this machine: tokens per second of a model's stages in its last runs, kept in the cache folder."""

import datetime
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from steering_core.foundation.cache import cache_folder, keep_json
from steering_core.foundation.counting import Work

LEAST_TOKENS = 256  # of a stage; fewer say more about its start than about its pace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """Tokens per second of one stage, and the day on which this machine took them."""

    tokens_per_second: float
    day: str


def known_paces(model_id: str) -> dict[str, Pace]:
    """The pace of each stage of a model that this machine has run; none where the file cannot be read."""
    try:
        kept = json.loads(_file(model_id).read_text(encoding="utf-8"))
        return {stage: Pace(float(pace["tokens_per_second"]), str(pace["day"])) for stage, pace in kept.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.info("the pace of earlier runs cannot be read, and is measured anew: %s", error)
        return {}


def _file(model_id: str) -> Path:
    return cache_folder() / "paces" / f"{model_id}.json"


def keep_paces(model_id: str, stages: Mapping[str, Work], least: int = LEAST_TOKENS) -> None:
    """Keep the pace of every stage that read at least `least` tokens.

    A cache that cannot be written is logged, and the pace is lost.
    """
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    new = {
        stage: {"tokens_per_second": work.tokens / work.seconds, "day": day}
        for stage, work in stages.items()
        if work.tokens >= least and work.seconds > 0
    }
    if not new:
        return
    old = {stage: vars(pace) for stage, pace in known_paces(model_id).items()}
    try:
        keep_json(_file(model_id), old | new)
    except OSError as error:
        log.info("the pace of this run cannot be kept: %s", error)
