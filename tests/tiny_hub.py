"""A hub on loopback that has a tiny model, and a machine that has none: fixtures, and what its tests share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from steering_core.models import hub as hub_module
from tests.hub_server import Hub, Repository, hub_server
from tests.tiny import save_tiny_model

NAME = "people/tiny"
WEIGHTS = "model.safetensors"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What people upload: a tiny model, with files that mlx-lm does not need."""
    folder = save_tiny_model(tmp_path_factory.mktemp("source") / "tiny", {"intermediate_size": 512})
    (folder / "README.md").write_text("a card")
    (folder / "modeling_tiny.py").write_text("raise SystemExit('run')")
    (folder / "pytorch_model.bin").write_bytes(b"weights again, as a pickle")
    (folder / "consolidated.safetensors").write_bytes(b"weights again, in one")
    return folder


@pytest.fixture
def hub(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub with the tiny model, and an empty cache on this machine."""
    with hub_server() as served:
        served.repositories[NAME] = Repository()
        served.repositories[NAME].commit(source)
        monkeypatch.setattr(constants, "ENDPOINT", served.endpoint)
        address = served.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(hub_module, "PAUSE_SECONDS", 0.01)
        monkeypatch.setenv("STEERFLOW_CACHE", str(tmp_path / "steerflow"))
        monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield served


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    """That of a process of its own with the same hub and the same caches."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "STEERFLOW_"))}
    return kept | {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HUB_CACHE": str(folder / "hub"),
        "HF_HOME": str(folder / "home"),
        "STEERFLOW_CACHE": str(folder / "steerflow"),
        "STEERFLOW_STORE": str(folder / "store"),
    }
