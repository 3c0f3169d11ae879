"""Datasets of the Hugging Face hub, where the package `datasets` is installed."""

import importlib
import itertools

from steering_core.concepts.concept import MAX_ROWS
from steering_core.concepts.formats.contents import Contents
from steering_core.concepts.formats.tables import Record
from steering_core.foundation.errors import ConceptError
from steering_core.foundation.validation import shortened

HUB = "hf:"


def hub_contents(source: str) -> Contents:
    """The rows of `hf:owner/name`, `hf:owner/name:split` or `hf:owner/name:configuration:split`; `train` by default.

    Raises ConceptError where `datasets` is not installed, or the hub does not give the dataset.
    """
    name, *rest = source.removeprefix(HUB).split(":")
    if not name or len(rest) > 2:
        raise ConceptError(f"{source!r} names no dataset: write hf:owner/name, hf:owner/name:split or …:config:split")
    try:
        datasets = importlib.import_module("datasets")
    except ImportError as fault:
        raise ConceptError(
            f"{source} needs the package `datasets`: pip install datasets, or download the file and name its path"
        ) from fault
    configuration, split = (rest if len(rest) == 2 else [None, *rest]) if rest else (None, "train")
    try:
        loaded = datasets.load_dataset(name, configuration, split=split)
        rows = list(itertools.islice(loaded, MAX_ROWS + 1))
    except Exception as fault:  # the package raises errors of a dozen libraries
        raise ConceptError(
            f"{source} cannot be loaded ({type(fault).__name__}: {shortened(str(fault), 300)})"
        ) from fault
    if len(rows) > MAX_ROWS:
        raise ConceptError(f"{source} has more than {MAX_ROWS:,} rows: name a smaller split, such as train[:5000]")
    return Contents(source, tuple(Record(f"row {i}", row) for i, row in enumerate(rows, 1)))
