"""The one place that imports mlx-lm, and knows its quirks."""

import contextlib
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from steering_core.backend.mlx import mx, nn
from steering_core.foundation.errors import ModelUnsupported
from steering_core.models import cpu
from steering_core.models.code import code_allowed, model_code
from steering_core.models.folders import INDEX
from steering_core.models.loading import loading_network, loading_tokenizer
from steering_core.models.quick_transformers import quick_transformers

if sys.platform != "win32":
    import resource


@contextlib.contextmanager
def _open_file_limit_kept() -> Iterator[None]:
    """mlx-lm lowers the process's open-file limit at import, hard limit included: a server would feel it."""
    if sys.platform == "win32":
        yield
        return
    setrlimit = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        yield
    finally:
        resource.setrlimit = setrlimit


with _open_file_limit_kept(), quick_transformers(), warnings.catch_warnings():
    warnings.filterwarnings("ignore", message="IProgress not found")  # tqdm's, in Jupyter without ipywidgets
    import mlx_lm.utils
    from mlx.utils import tree_flatten
    from mlx_lm.convert import convert
    from mlx_lm.models import activations, base, gemma2
    from mlx_lm.models.cache import BatchKVCache, ConcatenateKVCache, LRUPromptCache, make_prompt_cache
    from mlx_lm.sample_utils import apply_min_p, apply_top_k, apply_top_p, make_logits_processors
    from mlx_lm.tokenizer_utils import TokenizerWrapper


def _mend_gemma2() -> None:
    """Have Gemma 2's attention broadcast a mask that differs from row to row.

    With fewer key-value heads than heads its scores are 5-D, (B, kv heads, heads a kv head, T, S), because it caps them
    itself. A mask (B, 1, T, S) then meets the wrong axes: it raises, or masks the wrong rows where B is the number of
    key-value heads. mlx-lm's own batches are wrong in the same way.
    """
    attend = gemma2.Attention.__call__

    def attend_by_row(self: Any, x: mx.array, mask: mx.array | None = None, cache: Any = None) -> mx.array:
        """Gemma 2's attention with the mask given an axis for heads of one key-value head."""
        if mask is not None and mask.ndim == 4 and self.repeats > 1:
            mask = mask[:, :, None]
        return attend(self, x, mask, cache)

    gemma2.Attention.__call__ = attend_by_row  # type: ignore[method-assign]


_mend_gemma2()
_swiglu, _scaled_dot_product_attention = activations.swiglu, base.scaled_dot_product_attention
_rms_norm: Callable[[nn.RMSNorm, mx.array], mx.array] = nn.RMSNorm.__call__


def use_fast_cpu() -> None:
    """Have every architecture take float32's costly functions from `cpu`, and keep freed memory.

    Architectures copy the functions' names when they are imported, which the tokenizer may have done already.
    """
    cpu.keep_freed_memory()
    nn.RMSNorm.__call__ = _fast_rms_norm  # type: ignore[method-assign]
    fast = {_swiglu: _fast_swiglu, _scaled_dot_product_attention: _fast_attention}
    for name, module in list(sys.modules.items()):
        if name.startswith("mlx_lm.models."):
            for attribute in ("swiglu", "scaled_dot_product_attention"):
                found = vars(module).get(attribute)
                if found in fast:
                    setattr(module, attribute, fast[found])


def _fast_swiglu(gate: mx.array, x: mx.array) -> mx.array:
    return cpu.swiglu(gate, x) if gate.dtype == x.dtype == mx.float32 else _swiglu(gate, x)


def _fast_rms_norm(self: nn.RMSNorm, x: mx.array) -> mx.array:
    return cpu.rms_norm(x, self["weight"], self.eps) if x.dtype == mx.float32 else _rms_norm(self, x)


def _fast_attention(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    cache: Any,
    scale: float,
    mask: Any,
    sinks: mx.array | None = None,
) -> mx.array:
    if queries.dtype != mx.float32 or sinks is not None or hasattr(cache, "bits"):
        return _scaled_dot_product_attention(queries, keys, values, cache, scale=scale, mask=mask, sinks=sinks)
    return cpu.attention(queries, keys, values, scale, mask)


def lazy_network(folder: Path, full_precision: bool) -> nn.Module:
    """The network of an mlx-lm folder, whose weights are read when they are evaluated.

    Dequantised to float32 where `full_precision`. Raises ModelUnsupported where mlx-lm lacks the architecture or the
    weights do not fit it.
    """
    if full_precision:
        use_fast_cpu()
    architecture_in(folder)
    with loading_network(folder):
        network, _ = mlx_lm.utils.load_model(folder, lazy=True, trust_remote_code=code_allowed(folder))
    if full_precision:
        network = mlx_lm.utils.dequantize_model(network)
        network.set_dtype(mx.float32)
    network.eval()
    return network


def load_tokenizer(folder: Path) -> TokenizerWrapper:
    """The tokenizer of an mlx-lm folder, with its chat template, and the stop tokens that `mlx_lm.load` gives it.

    Most chat models name further ones in generation_config.json or config.json: the end of a turn, of a tool call.
    """
    with loading_tokenizer(folder):
        stops = mlx_lm.utils.load_config(folder).get("eos_token_id")
        trusted = {"trust_remote_code": code_allowed(folder)}
        return mlx_lm.utils.load_tokenizer(folder, trusted, eos_token_ids=stops)


def quantise_folder(source: Path, destination: Path, bits: int) -> None:
    """Write a quantised copy of an mlx-lm folder; `destination` must not exist."""
    with contextlib.redirect_stdout(sys.stderr):  # mlx-lm prints its progress
        convert(str(source), str(destination), quantize=True, q_bits=bits, q_group_size=64)


def stored_network(folder: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network of an mlx-lm folder in the precision of its files, and the configuration that its weights need.

    Nothing is read until it is evaluated. Raises as `lazy_network` does.
    """
    architecture_in(folder)
    with loading_network(folder):
        network, config = mlx_lm.utils.load_model(folder, lazy=True, trust_remote_code=code_allowed(folder))
    return network, config


def parameter_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter that mlx-lm's network for `config` has before it is quantised.

    Raises ModelUnsupported where mlx-lm builds no network for it.
    """
    try:
        model_class, arguments_class = mlx_lm.utils._get_classes(config)
        network = model_class(arguments_class.from_dict(config))
    except Exception as error:  # whatever an architecture says of a configuration that it does not know
        raise ModelUnsupported(
            f"mlx-lm builds no {config.get('model_type')!r} of that configuration: {error}"
        ) from error
    return {name: value.shape for name, value in named_weights(network).items()}


def named_weights(network: nn.Module) -> dict[str, mx.array]:
    """Every parameter of a network by its name."""
    found: list[tuple[str, mx.array]] = tree_flatten(network.parameters())  # type: ignore[assignment]
    return dict(found)


def write_weights(folder: Path, weights: Mapping[str, mx.array], metadata: Mapping[str, str]) -> None:
    """Write weights as an mlx-lm folder has them, in one file or in shards with their index."""
    shards = mlx_lm.utils.make_shards(dict(weights))
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    listed: dict[str, str] = {}
    for shard, name in zip(shards, names if len(shards) > 1 else ["model.safetensors"], strict=True):
        mx.save_safetensors(str(folder / name), shard, metadata={"format": "mlx", **metadata})
        listed |= dict.fromkeys(shard, name)
    size = sum(value.nbytes for value in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(listed.items()))}
    (folder / INDEX).write_text(json.dumps(index, indent=1), encoding="utf-8")


def apply_adapter(network: nn.Module, folder: Path) -> None:
    """Put a LoRA adapter of mlx-lm's form onto a network. ValueError, KeyError where it does not fit."""
    mlx_lm.utils.load_adapters(network, str(folder))


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Write config.json as mlx-lm does, in one step: a folder without it does not open."""
    temporary = folder / ".config.json"
    mlx_lm.utils.save_config(dict(config), temporary)
    temporary.replace(folder / "config.json")


def new_cache(network: nn.Module) -> list[Any]:
    """An empty cache for one batch, in the form that the architecture wants."""
    cache: list[Any] = make_prompt_cache(network)
    return cache


class _OneOffset(BatchKVCache):
    """Keys and values of rows that all begin at token 0, which share one offset until `finalize`.

    So MLX computes the sines and cosines of a pass's positions once for all rows.
    """

    def __init__(self, rows: int) -> None:
        super().__init__([0] * rows)
        self.offset: Any = 0

    def finalize(self) -> None:
        """Give each row its own offset, and roll what was padded on the right to the left."""
        self.offset = mx.full(self.left_padding.shape, self.offset)
        super().finalize()  # type: ignore[no-untyped-call]


def new_mixed_cache(network: nn.Module, lengths: Sequence[int]) -> list[Any]:
    """An empty cache for rows of those lengths, padded on the right while they are read; `finalize` ends that.

    Raises ModelUnsupported where one of the architecture's caches takes rows of one length only.
    """
    mixed = []
    for entries in zip(*(make_prompt_cache(network) for _ in lengths), strict=True):
        if not hasattr(entries[0], "merge"):
            raise ModelUnsupported(f"a {type(entries[0]).__name__} takes rows of one length only")
        entry = entries[0].merge(list(entries))
        if type(entry) is BatchKVCache:
            entry = _OneOffset(len(lengths))
        entry.prepare(lengths=list(lengths), right_padding=[max(lengths) - length for length in lengths])
        mixed.append(entry)
    return mixed


def tool_text(tokenizer: TokenizerWrapper) -> Any:
    """mlx-lm's machine that tells a tool call's text from the rest of an answer, at its beginning."""
    from mlx_lm.generate import TextStateMachine  # loads much, for tools alone

    transitions = {"normal": [(tokenizer.tool_call_start, "tool")]}
    if tokenizer.tool_call_end:  # some calls end with the text
        transitions["tool"] = [(tokenizer.tool_call_end, "normal")]
    return TextStateMachine(transitions).make_state("normal")


def split_tool_text(state: Any, text: str) -> tuple[Any, list[tuple[str, str]]]:
    """The state after `text`, and the pieces of it that are certain: (normal or tool, text)."""
    from mlx_lm.generate import TextStateMachine

    return TextStateMachine.split(state, text)


def rest_of_tool_text(state: Any) -> tuple[str, str]:
    """What the machine still holds back at an answer's end: (normal or tool, text)."""
    from mlx_lm.generate import TextStateMachine

    _, text, name = TextStateMachine.flush(state)
    return name, text


def architecture(network: nn.Module) -> str:
    """The name of mlx-lm's module for the network: several model types may share one."""
    return type(network).__module__.rpartition(".")[2]


def architecture_in(folder: Path) -> str:
    """The name of mlx-lm's module for a folder that is not loaded. Raises ModelUnsupported where mlx-lm lacks it."""
    if model_code(folder):
        return "custom_model"
    config = mlx_lm.utils.load_config(folder)
    try:
        model, _ = mlx_lm.utils._get_classes(config)
    except (ValueError, KeyError, AttributeError, TypeError) as error:  # no name, or that of another kind of module
        raise ModelUnsupported(
            f"mlx-lm {version('mlx-lm')} has no architecture {config.get('model_type')!r}, which "
            f"{folder / 'config.json'} names (model_type): upgrade mlx-lm if it is a new one, or take another model"
        ) from error
    return model.__module__.rpartition(".")[2]


__all__ = [
    "ConcatenateKVCache",
    "LRUPromptCache",
    "TokenizerWrapper",
    "apply_adapter",
    "apply_min_p",
    "apply_top_k",
    "apply_top_p",
    "architecture",
    "architecture_in",
    "lazy_network",
    "load_tokenizer",
    "make_logits_processors",
    "named_weights",
    "new_cache",
    "new_mixed_cache",
    "parameter_shapes",
    "quantise_folder",
    "rest_of_tool_text",
    "split_tool_text",
    "stored_network",
    "tool_text",
    "use_fast_cpu",
    "write_config",
    "write_weights",
]
