"""`Model`: a language model by name, identified at once, loaded when it is first used."""

import difflib
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from steering_core.backend.mlx import mx, nn, on_cpu, warn_if_slow
from steering_core.foundation.bounds import checked_layer
from steering_core.foundation.errors import LayerNotFound, ModelNotFound, ModelUnsupported
from steering_core.foundation.user_files import home_expanded
from steering_core.foundation.validation import shown
from steering_core.models import memory
from steering_core.models.abilities import Abilities, abilities
from steering_core.models.chat_template import ChatTemplate, checked_arguments
from steering_core.models.code import refuse_model_code
from steering_core.models.embedded import EMBEDDED, embedded_model
from steering_core.models.folders import checked_folder
from steering_core.models.identity import ModelIdentity, Shape, identify
from steering_core.models.raw_text import RawText
from steering_core.models.reading import reading_key, tokenizer_key
from steering_core.models.remembered import Remembered
from steering_core.models.taps import Taps
from steering_core.models.turns import Turns

if TYPE_CHECKING:
    from steering_core.models.mlx_lm import TokenizerWrapper


def model_folder(name: str) -> Path:
    """The mlx-lm folder of `name`: an embedded model, a local folder, or a Hugging Face id, `@revision` included.

    Raises ModelNotFound with what to do where there is none, ModelUnsupported and ModelDamaged for one that cannot be
    loaded, ModelRunsCode for one that would run Python of its own.
    """
    if name in EMBEDDED:
        return embedded_model(name)
    folder = home_expanded(name)
    if not name or not os.path.exists(folder):  # noqa: PTH110  (no name is too long for it, or too odd)
        folder = _from_hub(name)
    checked_folder(folder)
    refuse_model_code(folder)
    return folder


def _from_hub(name: str) -> Path:
    from steering_core.models.hub import hub_model, snapshot  # loads the hub's client, for a hub alone

    wanted = hub_model(name)
    if wanted is None:
        near = difflib.get_close_matches(name, EMBEDDED, n=1)
        meant = f"did you mean {near[0]!r}? Else " if near else ""
        raise ModelNotFound(
            f"there is no model {shown(name)}: {meant}name an embedded model ({', '.join(EMBEDDED)}), a local mlx-lm "
            "folder, or a Hugging Face id such as mlx-community/gemma-2-2b-it-4bit, with @BRANCH, @TAG or @COMMIT if "
            "you like"
        )
    return snapshot(wanted)


class Model:
    """One language model. Knows who it is without loading; `network` and `tokenizer` load when first asked for.

    with open_model("smollm2-135m") as model:
        model.identity.n_layers  # 30

    `template` holds arguments of its chat template, such as {"enable_thinking": True} or {"date": "2026-01-31"}
    (`steering_core.models.chat_template`); with other arguments it is another model to the store. This process holds at
    most `memory_limit` bytes, or what STEERFLOW_MEMORY or the device says (`memory.limit`).
    """

    memory_limit: int | None = None
    _given_back: tuple[str, ...] = ("remembered", "memory", "taps", "network")  # what `close` gives back

    def __init__(self, name: str, template: Mapping[str, Any] | None = None, memory_limit: int | None = None) -> None:
        warn_if_slow()
        self.name, self.memory_limit = name, memory_limit
        self.folder = model_folder(name)
        self._template = checked_arguments(template or {})
        self.identity: ModelIdentity = identify(name, self.folder, _precision(), self._template, self._shape)

    def __repr__(self) -> str:
        i = self.identity
        held = "loaded" if "network" in self.__dict__ else "not loaded yet"
        return f"<Model {self.name}: {i.architecture}, {i.n_layers} layers, width {i.width}, {i.dtype}, {held}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @cached_property
    def network(self) -> nn.Module:
        """The network; on a CPU dequantised to float32, which alone is fast there.

        Raises ModelTooLarge before its weights are read, where they do not fit into memory.
        """
        from steering_core.models.mlx_lm import lazy_network

        allowed = memory.limit(self.memory_limit)
        network = lazy_network(self.folder, full_precision=on_cpu())
        memory.check_fits(self.name, network, allowed)
        mx.set_memory_limit(allowed)  # what MLX keeps for later counts as well
        mx.eval(network.parameters())
        return network

    @cached_property
    def memory(self) -> memory.Budget:
        """How large this model's passes may be."""
        return memory.Budget(
            memory.limit(self.memory_limit), memory.footprint(self.network, self.taps, self.new_cache())
        )

    @cached_property
    def remembered(self) -> Remembered:
        """What passes computed and later passes want again; valid while the weights stay the same."""
        return Remembered.beside(self.memory.footprint.weights, self.memory.limit)

    @cached_property
    def taps(self) -> Taps:
        """Taps on the network's blocks, installed."""
        taps = Taps.on(self.network)
        taps.install()
        return taps

    @cached_property
    def tokenizer(self) -> "TokenizerWrapper":
        """The tokenizer, with its chat template."""
        from steering_core.models.mlx_lm import load_tokenizer

        return load_tokenizer(self.folder)

    @cached_property
    def chat_template(self) -> ChatTemplate:
        """What turns conversations into tokens."""
        return ChatTemplate(self.tokenizer, self.name, self._template)

    @cached_property
    def turns(self) -> Turns:
        """What tells whose turn each token of a conversation is in."""
        return Turns(self.chat_template, self.tokenizer, self.text)

    @cached_property
    def raw_text(self) -> RawText:
        """What turns raw text into tokens, and tokens into text."""
        return RawText(self.tokenizer)

    @cached_property
    def stop_tokens(self) -> frozenset[int]:
        """Tokens that end a generation: the tokenizer's, and those of the generation_config.json or config.json."""
        return frozenset(self.tokenizer.eos_token_ids)

    @property
    def further_stops(self) -> tuple[int, ...]:
        """The stop tokens beside the tokenizer's own, ascending."""
        return tuple(sorted(self.stop_tokens - {self.tokenizer.eos_token_id}))

    def new_cache(self) -> list[Any]:
        """An empty cache, one entry a block in most architectures."""
        from steering_core.models.mlx_lm import new_cache

        return new_cache(self.network)

    def new_mixed_cache(self, lengths: Sequence[int]) -> list[Any]:
        """An empty cache for rows of those lengths, padded on the right while they are read."""
        from steering_core.models.mlx_lm import new_mixed_cache

        return new_mixed_cache(self.network, lengths)

    @cached_property
    def abilities(self) -> Abilities:
        """What the architecture allows a batch to do."""
        from steering_core.models.mlx_lm import architecture_in

        return abilities(architecture_in(self.folder))

    def text(self, tokens: Sequence[int]) -> str:
        """What a sequence says from its first token on, special tokens included, exactly as they are."""
        return self.raw_text.decoded(tokens)

    def continuation(self, tokens: Sequence[int]) -> str:
        """What tokens say that follow others, as an answer's do."""
        return self.raw_text.continued(tokens)

    def token_bytes(self, token: int) -> bytes | None:
        """A token's own bytes, as it follows others; None where its tokenizer does not tell those of a piece."""
        return self.raw_text.bytes_of(token)

    def checked_layers(self, layers: list[int] | None) -> list[int]:
        """`layers`, sorted, each once; every layer for None. Raises LayerNotFound for a layer that the model lacks."""
        n = self.identity.n_layers
        wanted = list(range(n)) if layers is None else [checked_layer(layer) for layer in layers]
        for layer in wanted:
            if not 0 <= layer < n:
                raise LayerNotFound(f"layer {layer}: {self.name} has layers 0..{n - 1}")
        return sorted(set(wanted))

    def close(self) -> None:
        """Give the network's memory back; a later use loads it again."""
        if "taps" in self.__dict__:
            self.taps.remove()
        for attribute in self._given_back:
            self.__dict__.pop(attribute, None)
        mx.clear_cache()

    def _shape(self) -> Shape:
        dimensions = self.dimensions()  # first: a missing architecture is a plainer error than its tokenizer's
        reading = reading_key(self.tokenizer, self.chat_template, self.raw_text, self._template)
        return Shape(*dimensions, tokenizer_key(self.tokenizer), reading, self._system_role())

    def _system_role(self) -> str | None:
        """Where a system prompt stands in the chat template: its own place, the head of the user's turn, or nowhere."""
        if not self.chat_template.exists:
            return None
        return "system" if self.chat_template.takes_system else "user"

    def dimensions(self) -> tuple[int, int, int, str]:
        """Layers, width, vocabulary and dtype of the network, read off one token's pass through every tapped block.

        Raises TapNotFired, ModelUnsupported for an architecture that cannot be steered.
        """
        with self.taps.observed(range(len(self.taps))) as seen:
            logits = self.network(mx.array([[0]]), cache=self.new_cache())  # (1, 1, V)
        widths = {h.shape[-1] for h in seen.values()}
        if len(widths) != 1 or any(h.ndim != 3 for h in seen.values()):
            raise ModelUnsupported(f"{self.name}: its blocks do not hand on one residual stream (B, T, D)")
        return len(self.taps), widths.pop(), logits.shape[-1], str(logits.dtype).removeprefix("mlx.core.")


def _precision() -> str:
    """The precision of weights on this device: part of a model's identity, since activations depend on it."""
    return "float32" if on_cpu() else "as-stored"


def open_model(name: str, template: Mapping[str, Any] | None = None, memory_limit: int | None = None) -> Model:
    """The model `name`, for a `with` that closes it, or to keep. Raises ModelNotFound, ModelUnsupported.

    `template` holds arguments of its chat template: {"enable_thinking": True}, {"date": "2026-01-31"}, …
    `memory_limit` bounds the bytes that this process may hold, and so the size of batches.
    """
    return Model(name, template, memory_limit)
