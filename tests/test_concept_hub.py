"""Contrast data from the hub, through the package `datasets`."""

import sys
import types

import pytest

from steering_core.concepts import load_concept
from steering_core.foundation.errors import ConceptError


def test_hub_datasets_come_through_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, configuration: str | None, split: str) -> list[dict[str, str]]:
        asked.append((name, configuration, split))
        return [{"prompt": f"Why {i}?", "chosen": f"So {i}", "rejected": f"No {i}"} for i in range(30)]

    module = types.ModuleType("datasets")
    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)
    concept = load_concept("hf:somebody/some-set:validation")
    assert asked == [("somebody/some-set", None, "validation")]
    assert (concept.name, len(concept.pairs) + len(concept.items)) == ("somebody-some-set", 30)
    with pytest.raises(ConceptError, match="names no dataset"):
        load_concept("hf:a:b:c:d")


def test_hub_datasets_without_the_package_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConceptError, match="pip install datasets"):
        load_concept("hf:somebody/some-set")
