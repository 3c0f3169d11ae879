"""Activations of texts of one's own in Python: read by an open model, kept in the store, as arrays and frames."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from steering_core.activations.extract import extract
from steering_core.activations.sites import SITE, checked_position
from steering_core.api.options import StorePath
from steering_core.api.row_table import Rows
from steering_core.concepts.concept import Example
from steering_core.foundation.errors import ModelError, PromptError
from steering_core.foundation.validation import checked, counted, shown
from steering_core.models import Model
from steering_core.pipeline.rows import prompt_row
from steering_core.pipeline.stages import registered
from steering_core.prompts import text_prompt
from steering_core.store import Store, default_store

TextsLike = Iterable[str | Example | Mapping[str, str]]
"""Texts by themselves, or answers to prompts: {"prompt": "How was it?", "text": "Great."}."""


@dataclass(frozen=True, repr=False)
class LayeredRows(Rows):
    """Rows with a column `activation`, by layer and as many at each, of one position.

    `layers` are in the order in which they were asked for; `several` says that they were a list.
    """

    layers: tuple[int, ...]
    position: str
    several: bool = False
    _shown: ClassVar[int] = 4

    def values(self) -> np.ndarray:
        """The activations (N, D) float32 of N rows; of a list of layers (N, L, D), in that list's order."""
        flat = pa.concat_arrays([chunk.flatten() for chunk in self.table["activation"].chunks]).to_numpy()
        there, place = np.unique(self.layers, return_inverse=True)  # the table goes by layer
        rows = len(self.table) // len(there)
        values = flat.astype(np.float32).reshape(len(there), rows, -1)[place].swapaxes(0, 1)  # (N, L, D)
        return np.ascontiguousarray(values if self.several else values[:, 0])

    def _described(self, rows: str) -> str:
        layers = f"layer{'s' * self.several} {', '.join(map(str, self.layers))}"
        width = self.values().shape[-1]
        return f"<{type(self).__name__}: {rows}, {layers}, position {self.position}, width {width}>"


@dataclass(frozen=True, repr=False)
class TextActivations(LayeredRows):
    """Activations of texts at one position, in the texts' order; with the position `all` a row a token."""

    def __repr__(self) -> str:
        return self._described(counted(len(set(self.table["row"].to_pylist())), "text"))

    def numpy(self) -> np.ndarray:
        """The activations (N, D) float32 of N texts or tokens; of a list of layers (N, L, D), in that list's order."""
        return self.values()


def read_texts(
    given: TextsLike, layers: Sequence[int], model: Any, store: StorePath, position: str | None, several: bool
) -> TextActivations:
    """The activations of texts at some layers; the store keeps them, and only what it lacks is run.

    `position` is `last` unless it is named, and `response` where texts have prompts. Raises PromptError for what are no
    texts, ModelError for a model that is not open, LayerNotFound, PositionUnknown.
    """
    texts = _examples(given)
    if not isinstance(model, Model):
        named = repr(model) if isinstance(model, str) else "NAME"
        raise ModelError(f"texts are read by an open model: give model=open_model({named})")
    model.checked_layers(list(layers))
    place = checked_position(position or ("response" if any(text.prompt for text in texts) else "last"))
    prompts = [text_prompt(model, text.text, text.prompt) for text in texts]
    opened = Store(store or default_store())
    with opened.in_use():
        registered(opened, model)
        opened.append("prompts", [prompt_row(one) for one in prompts])
        extract(model, opened, prompts, layers, place)
    wanted = pa.table(
        {
            "row": pa.array(range(len(texts)), pa.int32()),
            "prompt": pa.array([text.prompt for text in texts], pa.string()),
            "text": pa.array([text.text for text in texts], pa.string()),
            "prompt_id": pa.array([one.prompt_id for one in prompts], pa.string()),
        }
    )
    token = "a.token, " if place == "all" else ""
    found = opened.query(
        f"SELECT m.name AS model, w.row, w.prompt, w.text, a.position, a.layer, {token}a.residual_norm, a.activation "
        "FROM wanted w JOIN raw.activations a USING (prompt_id) JOIN raw.models m USING (model_id) "
        "WHERE model_id = $1 AND list_contains($2, a.layer) AND a.position = $3 AND a.site = $4 "
        "ORDER BY a.layer, w.row, a.token",
        [model.identity.model_id, sorted(set(layers)), place, SITE],
        wanted=wanted,
    )
    return TextActivations(found, tuple(layers), place, several)


def _examples(given: TextsLike) -> list[Example]:
    """The texts, each with its prompt if it has one. Raises PromptError for what are no texts, with its place."""
    texts = []
    for i, one in enumerate(given):
        if isinstance(one, bytes):
            raise PromptError(f"text {i} is {shown(one)}, bytes, of which .decode() makes a text")
        if not isinstance(one, str | Example | Mapping):
            raise PromptError(
                f"text {i} is {shown(one)}, no text: give ['a text', …] or [{{'prompt': 'a question', 'text': 'an "
                "answer'}, …]; pairs are a Concept's, Concept(name='mine', pairs=[{'positive': 'a text', 'negative': "
                "'another'}, …])"
            )
        fields = {"text": one} if isinstance(one, str) else one
        texts.append(
            fields if isinstance(fields, Example) else checked(Example, dict(fields), f"text {i}", PromptError)
        )
    if not texts:
        raise PromptError("there are no texts to read: give at least one")
    return texts
