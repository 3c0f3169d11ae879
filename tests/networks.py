"""Tiny random networks of every architecture of mlx-lm that can be built here."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from steering_core.backend.mlx import mx
from steering_core.foundation.errors import ModelUnsupported, TapNotFired
from steering_core.models.abilities import Abilities
from steering_core.models.model import Model
from tests.tiny import random_network

CONFIGS: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("architectures.json").read_text())
REFUSED = {"iquestloopcoder": TapNotFired, "deepseek_v41": ModelUnsupported, "gemma3n": ModelUnsupported}


class Unsaved(Model):
    """A model around a network that lies in no folder."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.name = config["model_type"]
        self.network = random_network(config)
        self.network.eval()
        self.able = Abilities(mixed=False, grows=False)

    @property
    def abilities(self) -> Abilities:
        return self.able


@pytest.fixture(params=sorted(CONFIGS.keys() - REFUSED.keys()))
def built(request: pytest.FixtureRequest) -> Iterator[Unsaved]:
    """A model of every architecture that can be steered, one after another."""
    model = Unsaved(CONFIGS[request.param])
    yield model
    model.close()
    mx.clear_cache()
