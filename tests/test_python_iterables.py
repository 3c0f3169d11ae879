"""What Python may hand over in place of a list of texts or pairs: columns, frames, generators, names and paths."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import steering_core as steer
from steering_core.concepts import Concept
from steering_core.foundation.errors import ConceptError, PromptError, VectorError
from steering_core.models import Model
from tests.concepts import sound_concept

TEXTS = ["Hello there", "What is tea?"]
PAIRS = [("What a day", "What a bore"), ("I love it", "I hate it")]
FRAME = {"positive": [a for a, _ in PAIRS], "negative": [b for _, b in PAIRS], "id": [1, 2]}


@pytest.mark.parametrize(
    "made", [tuple, iter, np.array, pd.Series, pl.Series, lambda texts: (text for text in texts)]
)  # fmt: skip
def test_generate_answers_texts_of_any_iterable(tiny: Model, made: Callable[[list[str]], Any]) -> None:
    expected = steer.generate(tiny, TEXTS, max_tokens=3)
    assert steer.generate(tiny, made(TEXTS), max_tokens=3) == expected


def test_generate_answers_a_batch_of_conversations(tiny: Model) -> None:
    turns = [[{"role": "user", "content": text}] for text in TEXTS]
    assert steer.generate(tiny, turns, max_tokens=3) == [steer.generate(tiny, one, max_tokens=3) for one in turns]


def test_a_missing_text_among_others_is_named_by_its_place(tiny: Model) -> None:
    with pytest.raises(PromptError, match="text 1 is nan, no text: leave it out"):
        steer.generate(tiny, pd.Series(["Hello", float("nan")]))


@pytest.mark.parametrize(
    "given",
    [
        zip(*(FRAME[side] for side in ("positive", "negative")), strict=True),
        pd.DataFrame(FRAME),
        pl.DataFrame(FRAME),
        pa.table(FRAME),
        pd.DataFrame(FRAME)[["positive", "negative"]].values,
        pd.DataFrame(FRAME).itertuples(),
        pd.DataFrame({"chosen": FRAME["positive"], "rejected": FRAME["negative"]}),
        pd.DataFrame({**FRAME, "prompt": [None, float("nan")]}),
        pd.DataFrame({"positive": FRAME["positive"], "negative": FRAME["negative"], "prompt": np.nan}).to_dict(
            "records"
        ),
    ],
)
def test_a_vector_comes_from_pairs_of_any_iterable(tiny: Model, given: Any) -> None:
    found = steer.derive_vector(tiny, given, layer=1, position="last")
    np.testing.assert_array_equal(found.direction, steer.derive_vector(tiny, PAIRS, 1, position="last").direction)


def test_a_vector_comes_from_a_concept_by_name_or_path(tiny: Model, tmp_path: Path) -> None:
    concept, path = sound_concept(), tmp_path / "sound.json"
    path.write_text(concept.model_dump_json())
    expected = steer.derive_vector(tiny, concept, layer=1).direction
    for given in (path, str(path)):
        np.testing.assert_array_equal(steer.derive_vector(tiny, given, layer=1).direction, expected)
    with pytest.raises(ConceptError, match="sentiment"):
        steer.derive_vector(tiny, "sentimnt", layer=1)


def test_a_frame_of_other_columns_says_which_are_wanted(tiny: Model) -> None:
    with pytest.raises(VectorError, match=r"of the columns a, b none are the two sides: call them positive, negative"):
        steer.derive_vector(tiny, pd.DataFrame({"a": ["x"], "b": ["y"]}), layer=1)


def test_a_missing_prompt_is_none() -> None:
    rows = pd.DataFrame({"positive": ["a", "b"], "negative": ["c", "d"], "prompt": [np.nan, np.nan]})
    concept = Concept(name="mine", pairs=rows.to_dict("records"))  # type: ignore[arg-type]
    assert [pair.prompt for pair in concept.pairs] == [None, None]
    assert not concept.chat
