"""Forms: how a network's weights and configuration hold what is baked. Each is tried in turn, and `proof` decides."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from steering_core.backend.mlx import mx, nn
from steering_core.baking.bakeable import Bakeable
from steering_core.baking.writers import WriterMatrix, embedding_of, removed_from_rows, writers
from steering_core.foundation.errors import ModelUnsupported, NotBakeable
from steering_core.models.mlx_lm import architecture, named_weights, parameter_shapes

MODULE_FILE = "steered_model.py"
_BIASES: tuple[dict[str, Any], ...] = (
    {},
    {"mlp_bias": True},
    {"use_bias": True},
    {"attention_bias": True, "mlp_bias": True},
)
_LIKE_LLAMA = ("qwen2",)  # computes what Llama with biases does, and has no bias at its last projection
_FINE = 8  # bits of a changed matrix: a change is small in each number, and with 4 bits rounding would undo it
_GROUPS = (64, 32)  # group sizes of MLX's affine quantisation, the coarsest first
_QUANTISED = (".scales", ".biases", ".global_scale")  # parameters that quantising adds


@dataclass(frozen=True)
class BakedForm:
    """One way to hold a change: the folder's configuration and weights, and `says`, how it does that.

    `module` is the source of a module that mlx-lm has to run (`model_file`), where nothing else can hold it.
    `requantised` names each matrix that was quantised anew, with its relative error, to be evaluated.
    """

    says: str
    config: dict[str, Any]
    weights: dict[str, mx.array]
    module: str | None = None
    requantised: dict[str, mx.array] = field(default_factory=dict)


def forms(network: nn.Module, config: dict[str, Any], wanted: Bakeable, embeddings: bool) -> Iterator[BakedForm]:
    """The forms that may hold `wanted` in `network`, whose configuration is `config`; those without code first.

    Raises NotBakeable where the architecture has no matrices for it.
    """
    width = len(wanted.removals[0].unit if wanted.removals else next(iter(wanted.additions.values())))
    said, weights, anew = "", named_weights(network), _Anew(isinstance(config.get("quantization"), dict))
    if wanted.removals:
        _remove_directions(network, wanted, weights, anew)
        said = f"{len(writers_of(network, wanted))} matrices that write into the stream lost the direction"
    if embeddings:
        config = _embeddings_removed(network, config, wanted, weights, anew)
        said += ", the embeddings as well"
    if anew.how:
        config = {**config, "quantization": {**config["quantization"], **anew.how}}
        said += f", and have {_FINE} bits"
    errors = anew.errors
    if not wanted.additions:
        yield BakedForm(said, config, weights, requantised=errors)
        return
    both = f"{said}; " if said else ""
    for form in (*_biased(network, config, wanted, weights, width), _module(network, config, wanted, weights)):
        yield dataclasses.replace(form, says=both + form.says, requantised=errors)


def stream_dtype(network: nn.Module) -> mx.Dtype:
    """The type in which the network keeps its stream: that of its blocks' one-dimensional floats."""
    weights = named_weights(network.layers[0])
    floats = [v.dtype for v in weights.values() if mx.issubdtype(v.dtype, mx.floating)]
    vectors = [v.dtype for n, v in weights.items() if v.ndim == 1 and mx.issubdtype(v.dtype, mx.floating)]
    return (vectors or floats)[0]


# -- matrices that lose a direction ------------------------------------------------------------------------------------


@dataclass
class _Anew:
    """Matrices that are quantised anew: the relative error of each (lazy), and `how` for those that get more bits.

    `may_refine` says whether the model's configuration can give a matrix a quantisation of its own.
    """

    may_refine: bool
    errors: dict[str, mx.array] = field(default_factory=dict)
    how: dict[str, dict[str, Any]] = field(default_factory=dict)

    def quantisation(self, name: str, module: nn.Module) -> dict[str, Any]:
        """How the matrix is quantised now: as it was, or with more bits where it had few."""
        own = {"group_size": module.group_size, "bits": module.bits, "mode": module.mode}
        inputs = module["scales"].shape[-1] * module.group_size
        group = own["group_size"] if own["mode"] == "affine" else next((g for g in _GROUPS if inputs % g == 0), None)
        if not self.may_refine or own["bits"] >= _FINE or group is None:
            return own
        self.how[name] = {"group_size": group, "bits": _FINE, "mode": "affine"}
        return self.how[name]


def _remove_directions(network: nn.Module, wanted: Bakeable, weights: dict[str, mx.array], anew: _Anew) -> None:
    """Have the writers in `weights` lose the directions."""
    for writer, *sides in writers_of(network, wanted):
        left, right = (mx.array(side, mx.float32) for side in sides)
        matrix = matrix_of(writer.module)  # (…, D, in)
        _put(weights, anew, writer.name, writer.module, matrix + left @ (right @ matrix))
        if (bias := writer.module.get("bias")) is not None:
            changed = bias.astype(mx.float32)
            weights[f"{writer.name}.bias"] = (changed + (changed @ right.T) @ left.T).astype(bias.dtype)


def matrix_of(module: nn.Module) -> mx.array:
    """The matrix of a linear layer, of experts or of embeddings, in float32, lazily."""
    weight: mx.array = module["weight"]
    if "scales" in module:
        how = {"group_size": module.group_size, "bits": module.bits, "mode": module.mode}
        weight = mx.dequantize(weight, module["scales"], module.get("biases"), **how)
    return weight.astype(mx.float32)


def _put(weights: dict[str, mx.array], anew: _Anew, name: str, module: nn.Module, matrix: mx.array) -> None:
    """Have `weights` hold `matrix` as the module holds its own: in its type, or quantised."""
    if "scales" not in module:
        weights[f"{name}.weight"] = matrix.astype(module["weight"].dtype)
        return
    how, scales = anew.quantisation(name, module), module["scales"]
    if name in anew.how:
        weights.pop(f"{name}.global_scale", None)  # of a mode that it no longer has
    exact = matrix.astype(scales.dtype) if mx.issubdtype(scales.dtype, mx.floating) else matrix.astype(mx.bfloat16)
    weight, *rest = mx.quantize(exact, **how)
    kept = dict(zip(("scales", "biases"), rest, strict=False))
    weights[f"{name}.weight"] = weight
    weights.update({f"{name}.{part}": value for part, value in kept.items()})
    back = mx.dequantize(weight, kept["scales"], kept.get("biases"), **how).astype(mx.float32)
    anew.errors[name] = mx.linalg.norm(back - matrix) / mx.linalg.norm(matrix)


def _embeddings_removed(
    network: nn.Module,
    config: dict[str, Any],
    wanted: Bakeable,
    weights: dict[str, mx.array],
    anew: _Anew,
) -> dict[str, Any]:
    """Have the embeddings in `weights` lose the directions too, and the head keep its own; the configuration for that.

    Raises NotBakeable for additions alone, and where the architecture always reads its logits off the embeddings.
    """
    if not wanted.removals:
        raise NotBakeable(
            "embeddings are changed (--embeddings, embeddings=) where directions are taken out (!NAME), and this adds "
            "vectors alone"
        )
    name = embedding_of(network)
    module = dict(network.named_modules())[name]
    if tied(network):
        config = _untied(network, config, name, weights)
    left, right = removed_from_rows(wanted.removals)
    matrix = matrix_of(module)  # (V, D)
    _put(weights, anew, name, module, matrix + (matrix @ mx.array(right.T, mx.float32)) @ mx.array(left.T, mx.float32))
    return config


def tied(network: nn.Module) -> bool:
    """Whether the network reads its logits off the embeddings."""
    return not any(name.endswith("lm_head.weight") for name in named_weights(network))


def _untied(network: nn.Module, config: dict[str, Any], embedding: str, weights: dict[str, mx.array]) -> dict[str, Any]:
    """The configuration of the network with a head of its own, which gets the embeddings as they were."""
    untied = {**config, "tie_word_embeddings": False}
    heads = [name for name in parameter_shapes(untied) if name.endswith("lm_head.weight")]
    if len(heads) != 1:
        raise NotBakeable(
            f"{architecture(network)} always reads its logits off the embeddings, which would lose the direction too: "
            "leave the embeddings as they are"
        )
    head = heads[0].removesuffix(".weight")
    for part in ("weight", "scales", "biases"):
        if f"{embedding}.{part}" in weights:
            weights[f"{head}.{part}"] = weights[f"{embedding}.{part}"]
    quantisation = config.get("quantization")
    if isinstance(quantisation, dict) and embedding in quantisation:
        untied["quantization"] = {**quantisation, head: quantisation[embedding]}
    return untied


# -- vectors that are added --------------------------------------------------------------------------------------------


def _biased(
    network: nn.Module, config: dict[str, Any], wanted: Bakeable, weights: dict[str, mx.array], width: int
) -> Iterator[BakedForm]:
    """The vectors as biases of the blocks' last projections, in each configuration that gives these a bias."""
    last = _last_projections(network, width)
    if not wanted.additions.keys() <= last.keys():
        return
    names = {layer: f"{last[layer].name}.bias" for layer in wanted.additions}
    dtype = stream_dtype(network)
    for candidate, said in _with_biases(network, config):
        try:
            missing = _new_biases(weights, parameter_shapes(candidate))
        except ModelUnsupported:
            continue
        if missing is None or not set(names.values()) <= {*missing, *weights}:
            continue
        full = {**weights, **{name: mx.zeros(shape, dtype) for name, shape in missing.items()}}
        for layer, delta in wanted.additions.items():
            full[names[layer]] = (full[names[layer]].astype(mx.float32) + mx.array(delta)).astype(dtype)
        yield BakedForm(f"vectors added as the bias of {_shown(names.values())}{said}", candidate, full)
        return


def _last_projections(network: nn.Module, width: int) -> dict[int, WriterMatrix]:
    """A matrix of each block whose output is added to the stream as it is, after the attention where there is one."""
    plain = [
        w for w in writers(network, width) if w.gain is None and isinstance(w.module, nn.Linear | nn.QuantizedLinear)
    ]
    attention_first = sorted(plain, key=lambda writer: "att" not in writer.name.rpartition(".")[0].lower())
    return {writer.layer: writer for writer in attention_first}


def _with_biases(network: nn.Module, config: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Configurations of the same network that may have a bias at its last projections, and what is said of each."""
    for flags in _BIASES:
        yield {**config, **flags}, ""
    if architecture(network) in _LIKE_LLAMA:
        left_out = ("layer_types", "sliding_window", "use_sliding_window", "max_window_layers")
        known = {**config, **dataclasses.asdict(network.args)}
        llama = {name: value for name, value in known.items() if name not in left_out}
        llama |= {
            "model_type": "llama",
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": True,
            "mlp_bias": True,
        }
        yield llama, f"; {architecture(network)} has none there, so the folder is a llama, which computes the same"


def _new_biases(
    weights: Mapping[str, mx.array], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]] | None:
    """The biases that `shapes` has beyond `weights`; None where they differ in anything else."""
    plain = {name for name in weights if not name.endswith(_QUANTISED)}
    missing = {name: shape for name, shape in shapes.items() if name not in plain}
    fits = plain <= shapes.keys() and all(name.endswith(".bias") for name in missing)
    return missing if fits else None


def _module(network: nn.Module, config: dict[str, Any], wanted: Bakeable, weights: dict[str, mx.array]) -> BakedForm:
    """The vectors as parameters of their own, added by a module that mlx-lm runs beside the architecture's.

    Raises NotBakeable where the model runs a module of its own already.
    """
    if "model_file" in config:
        raise NotBakeable(f"{config['model_file']} of this model leaves no place for a vector to be added")
    prefixes = {id(module): name for name, module in network.named_modules()}
    dtype = stream_dtype(network)
    steering = {
        f"{prefixes[id(network.layers[layer])]}.steering": mx.array(delta).astype(dtype)
        for layer, delta in wanted.additions.items()
    }
    layers = tuple(sorted(wanted.additions))
    width = len(next(iter(wanted.additions.values())))
    source = _SOURCE.format(architecture=architecture(network), layers=layers, width=width)
    said = f"vectors added by {MODULE_FILE}, because {architecture(network)} has no bias after its last projections"
    return BakedForm(said, {**config, "model_file": MODULE_FILE}, {**weights, **steering}, module=source)


def _shown(names: Any) -> str:
    found = sorted(names)
    return ", ".join(found[:3]) + (f" and {len(found) - 3} more" if len(found) > 3 else "")


_SOURCE = '''"""mlx-lm's {architecture} with a vector added to the output of blocks {layers}. Written by steerflow.

mlx-lm runs this file where it is given --trust-remote-code. It needs nothing but mlx and mlx-lm.
"""

import mlx.core as mx
from mlx_lm.models.{architecture} import Model as Base
from mlx_lm.models.{architecture} import ModelArgs

LAYERS = {layers}
WIDTH = {width}
__all__ = ["Model", "ModelArgs"]


def steered(block_class):
    class Steered(block_class):
        def __call__(self, *args, **kwargs):
            output = super().__call__(*args, **kwargs)
            if isinstance(output, tuple):
                return (output[0] + self.steering, *output[1:])
            return output + self.steering

    return Steered


class Model(Base):
    def __init__(self, args):
        super().__init__(args)
        for layer in LAYERS:
            block = self.layers[layer]
            block.steering = mx.zeros((WIDTH,))
            block.__class__ = steered(type(block))
'''


def writers_of(network: nn.Module, wanted: Bakeable) -> list[tuple[WriterMatrix, np.ndarray, np.ndarray]]:
    """Each matrix that loses a direction, with its L (D, k) and R (k, D)."""
    found = []
    for writer in writers(network, len(wanted.removals[0].unit)):
        left, right = writer.removed(wanted.removals)
        if left.shape[1]:
            found.append((writer, left, right))
    return found
