"""A model that mlx-lm has loaded already: its own network and tokenizer, known by what they hold.

    import mlx_lm
    import steering_core as steer

    model = steer.from_mlx_lm(*mlx_lm.load("mlx-community/gemma-2-2b-it-4bit"))

Nothing is loaded a second time, and mlx-lm goes on with the same network (docs/decisions/0045-models-in-memory.md).
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steering_core.backend.mlx import mx, nn, on_cpu, warn_if_slow
from steering_core.foundation.errors import ModelUnsupported
from steering_core.foundation.keys import content_key
from steering_core.models.abilities import Abilities, abilities
from steering_core.models.chat_template import checked_arguments
from steering_core.models.code import code_allowed, model_code
from steering_core.models.identity import ModelIdentity, identify, identity_of_shape
from steering_core.models.model import Model
from steering_core.models.reading import tokenizer_key

if TYPE_CHECKING:
    from steering_core.models.mlx_lm import TokenizerWrapper


class LoadedModel(Model):
    """A model that somebody else loaded and keeps: `close` takes its taps away and leaves the network."""

    _given_back = ("remembered", "memory", "taps")

    def __init__(
        self,
        network: nn.Module,
        tokenizer: "TokenizerWrapper",
        name: str | None = None,
        template: Mapping[str, Any] | None = None,
        memory_limit: int | None = None,
    ) -> None:
        warn_if_slow()
        _check(network, tokenizer)
        source = str(tokenizer.name_or_path)
        self.name, self.memory_limit = name or source or f"a {_configuration(network)['model_type']}", memory_limit
        self.network, self.tokenizer = network, tokenizer
        self._template = checked_arguments(template or {})
        if _all_float32(network) and on_cpu():
            from steering_core.models.mlx_lm import use_fast_cpu

            use_fast_cpu()
        self.identity = self._identity(Path(source) if source else None)

    @property
    def folder(self) -> Path:  # type: ignore[override]
        """There is none. Raises ModelUnsupported."""
        raise ModelUnsupported(
            f"{self.name} was handed over loaded, so its files are not known: name its folder or its Hugging Face id"
        )

    @cached_property
    def abilities(self) -> Abilities:
        """What the architecture allows a batch to do."""
        from steering_core.models.mlx_lm import architecture

        return abilities(architecture(self.network))

    def _identity(self, source: Path | None) -> ModelIdentity:
        """The identity of the folder that it came from, if nothing was changed since; else one made of its weights."""
        precision = "float32" if on_cpu() and _all_float32(self.network) else "as-stored"
        if source and _is_what_lies_in(source, self.network, self.tokenizer):
            return identify(self.name, source, precision, self._template, self._shape)
        config = _configuration(self.network)
        weights = content_key("model in memory", config, _digests(self.network), precision)
        return identity_of_shape(self.name, weights, config, self._template, self._shape())


def _check(network: Any, tokenizer: Any) -> None:
    """Raise ModelUnsupported for what is no pair that `mlx_lm.load` returns, and for a network in training."""
    from steering_core.models.mlx_lm import TokenizerWrapper

    if not isinstance(network, nn.Module) or not isinstance(tokenizer, TokenizerWrapper):
        raise ModelUnsupported(
            f"from_mlx_lm takes the network and the tokenizer of mlx_lm.load, and was given a {type(network).__name__} "
            f"and a {type(tokenizer).__name__}: from_mlx_lm(*mlx_lm.load(NAME))"
        )
    if network.training:
        raise ModelUnsupported("the network is in training, where dropout draws anew in every pass: call its eval()")


def _all_float32(network: nn.Module) -> bool:
    from steering_core.models.mlx_lm import named_weights

    return all(value.dtype == mx.float32 for value in named_weights(network).values())


def _is_what_lies_in(folder: Path, network: nn.Module, tokenizer: "TokenizerWrapper") -> bool:
    """Whether every weight, the configuration and the tokenizer are those of an mlx-lm folder.

    One weight at a time is read from the files. Adapters, other settings and further training make it another model.
    """
    from steering_core.models.mlx_lm import load_tokenizer, named_weights, stored_network

    if not (folder / "config.json").is_file() or (model_code(folder) and not code_allowed(folder)):
        return False
    try:
        stored, _ = stored_network(folder)
        same_reading = tokenizer_key(load_tokenizer(folder)) == tokenizer_key(tokenizer)
    except ModelUnsupported:  # the files were changed since: this network is not theirs
        return False
    if not same_reading or type(stored) is not type(network) or _configuration(stored) != _configuration(network):
        return False
    files, held = named_weights(stored), named_weights(network)
    del stored  # which would keep every weight that was compared
    return files.keys() == held.keys() and all(_same(held[name], files.pop(name)) for name in held)


def _same(one: mx.array, other: mx.array) -> bool:
    alike = one.dtype == other.dtype and one.shape == other.shape
    return alike and bool(mx.array_equal(one, other, equal_nan=True))


def _configuration(network: nn.Module) -> dict[str, Any]:
    """What the network was built with, and its type, as JSON; also how each part of it is quantised."""
    arguments = getattr(network, "args", None)
    told = dataclasses.asdict(arguments) if dataclasses.is_dataclass(arguments) else {}  # type: ignore[arg-type]
    parts = {name: [m.bits, m.group_size] for name, m in network.named_modules() if hasattr(m, "bits")}
    bits = "/".join(sorted({str(bits) for bits, _ in parts.values()}))
    # some architectures add objects to their arguments as they run: no JSON, and derived from the arguments
    said = json.loads(json.dumps(told, default=lambda value: f"a {type(value).__name__}"))
    said |= {"model_type": getattr(network, "model_type", "unknown"), "quantised_parts": parts}
    return said | ({"quantization": {"bits": bits}} if bits else {})


def _digests(network: nn.Module) -> dict[str, str]:
    """A SHA-256 of every parameter's type, shape and bytes."""
    from steering_core.models.mlx_lm import named_weights

    return {name: _digest(value) for name, value in sorted(named_weights(network).items())}


def _digest(value: mx.array) -> str:
    found = hashlib.sha256(f"{value.dtype} {value.shape}".encode())
    found.update(np.array(mx.contiguous(value.reshape(-1)).view(mx.uint8)).data)
    return found.hexdigest()


def from_mlx_lm(
    network: nn.Module,
    tokenizer: "TokenizerWrapper",
    name: str | None = None,
    template: Mapping[str, Any] | None = None,
    memory_limit: int | None = None,
) -> Model:
    """The model of a network and a tokenizer that `mlx_lm.load` returned, as they are: nothing is loaded again.

    What still equals the folder it was loaded from, weight by weight, is that model: vectors of the store fit it. What
    does not, because of an adapter, further training or other settings, is a model of its own, known by its weights at
    this moment; after a change, call this again. On a CPU a quantised network stays quantised, which `open_model` would
    not leave it. `name`, `template` and `memory_limit` are as in `open_model`. Raises ModelUnsupported.
    """
    return LoadedModel(network, tokenizer, name, template, memory_limit)
