"""The pace of this machine: tokens per second of a model's stages in its last runs, kept in the cache folder."""

import datetime
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass

from steering_core.foundation.cache import cache_folder
from steering_core.foundation.counting import Work

LEAST_TOKENS = 256  # of a stage; fewer say more about its start than about its pace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pace:
    """Tokens per second of one stage, and the day on which this machine took them."""

    tokens_per_second: float
    day: str


def known_paces(model_id: str) -> dict[str, Pace]:
    """The stages of a model whose pace this machine knows; none where nothing ran, or the file cannot be read."""
    try:
        kept = json.loads((cache_folder() / "paces" / f"{model_id}.json").read_text(encoding="utf-8"))
        return {stage: Pace(float(pace["tokens_per_second"]), str(pace["day"])) for stage, pace in kept.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        log.info("the pace of earlier runs cannot be read, and is measured anew: %s", error)
        return {}


def keep_paces(model_id: str, stages: Mapping[str, Work], least: int = LEAST_TOKENS) -> None:
    """Keep the pace of every stage that did `least` tokens, enough to tell.

    A cache that cannot be written loses it, with a word.
    """
    day = datetime.datetime.now(datetime.UTC).date().isoformat()
    told = {stage: did for stage, did in stages.items() if did.tokens >= least and did.seconds > 0}
    if not told:
        return
    new = {stage: {"tokens_per_second": did.tokens / did.seconds, "day": day} for stage, did in told.items()}
    old = {stage: vars(pace) for stage, pace in known_paces(model_id).items()}
    path = cache_folder() / "paces" / f"{model_id}.json"
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(old | new), encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        log.info("the pace of this run cannot be kept: %s", error)
