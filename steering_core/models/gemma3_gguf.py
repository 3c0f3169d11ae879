"""A Gemma 3 text model's GGUF file as an mlx-lm folder: float32 weights, exactly the values that its blocks hold.

The block types are read by the package `gguf`. Names and numbers follow llama.cpp's conversion, backwards: its norms
hold 1 + weight, its tokenizer is sentencepiece's byte-pair encoding with scores for merge ranks.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, TokenType, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from steering_core.backend.mlx import mx

_PARTS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_LOCAL_ROPE_BASE, _WINDOW_PATTERN = 10_000.0, 6  # of every Gemma 3; the file does not say them
_SPACE = "\u2581"


def write_folder(gguf: Path, folder: Path) -> None:
    """Write `gguf` as an mlx-lm folder. Raises ValueError for a file of another architecture."""
    reader = GGUFReader(gguf)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(_config(reader), indent=1))
    weights = {name: mx.array(values) for name, values in _weights(reader)}
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    _tokenizer(reader).save_pretrained(folder)


def _said(reader: GGUFReader, name: str) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise ValueError(f"the GGUF file says nothing of {name}")
    return field.contents()


def _config(reader: GGUFReader) -> dict[str, Any]:
    if (found := _said(reader, "general.architecture")) != "gemma3":
        raise ValueError(f"the GGUF file holds a model of architecture {found}, not gemma3")

    def of(name: str) -> Any:
        """The value of the file's field `gemma3.name`."""
        return _said(reader, f"gemma3.{name}")

    return {
        "model_type": "gemma3_text",
        "architectures": ["Gemma3ForCausalLM"],
        "hidden_size": of("embedding_length"),
        "num_hidden_layers": of("block_count"),
        "intermediate_size": of("feed_forward_length"),
        "num_attention_heads": of("attention.head_count"),
        "num_key_value_heads": of("attention.head_count_kv"),
        "head_dim": of("attention.key_length"),
        "query_pre_attn_scalar": of("attention.key_length"),
        "rms_norm_eps": of("attention.layer_norm_rms_epsilon"),
        "rope_theta": of("rope.freq_base"),
        "rope_local_base_freq": _LOCAL_ROPE_BASE,
        "sliding_window": of("attention.sliding_window"),
        "sliding_window_pattern": _WINDOW_PATTERN,
        "max_position_embeddings": of("context_length"),
        "vocab_size": len(_said(reader, "tokenizer.ggml.tokens")),
        "tie_word_embeddings": True,
        "bos_token_id": _said(reader, "tokenizer.ggml.bos_token_id"),
        "eos_token_id": _said(reader, "tokenizer.ggml.eos_token_id"),
    }


def _weights(reader: GGUFReader) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor under mlx-lm's name, float32."""
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        stem, _, kind = tensor.name.rpartition(".")
        if stem.startswith("blk."):
            _, layer, part = stem.split(".")
            name = f"model.layers.{layer}.{_PARTS[part]}.{kind}"
        else:
            name = f"{_WHOLE[stem]}.{kind}"
        yield name, values - 1 if "norm" in stem else values


def _tokenizer(reader: GGUFReader) -> PreTrainedTokenizerFast:
    """Sentencepiece's byte-pair encoding: spaces as their own sign, bytes for what has no piece."""
    tokens: list[str] = _said(reader, "tokenizer.ggml.tokens")
    types: list[int] = _said(reader, "tokenizer.ggml.token_type")
    ids = {token: i for i, token in enumerate(tokens)}

    def named(which: str) -> str:
        """The special token of that role."""
        return tokens[_said(reader, f"tokenizer.ggml.{which}_token_id")]

    merges = _merges(ids, _said(reader, "tokenizer.ggml.scores"), types)
    model = models.BPE(vocab=ids, merges=merges, unk_token=named("unknown"), fuse_unk=True, byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", _SPACE)
    tokenizer.decoder = decoders.Sequence([decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    bos = named("bos")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, ids[bos])]
    )
    by_type: dict[int, list[str]] = {}
    for token, kind in zip(tokens, types, strict=True):
        by_type.setdefault(kind, []).append(token)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in by_type[TokenType.CONTROL]])
    users = by_type.get(TokenType.USER_DEFINED, [])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in users])
    wrapped: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast
    return wrapped(
        tokenizer_object=tokenizer,
        bos_token=bos,
        eos_token=named("eos"),
        pad_token=named("padding"),
        clean_up_tokenization_spaces=False,
    )


def _merges(ids: dict[str, int], scores: list[float], types: list[int]) -> list[tuple[str, str]]:
    """Every way to join two pieces into a third, the piece with the best score first."""
    found: list[tuple[float, int, int, str, str]] = []
    for token, i in ids.items():
        if types[i] != TokenType.NORMAL:
            continue
        for cut in range(1, len(token)):
            left, right = ids.get(token[:cut]), ids.get(token[cut:])
            if left is not None and right is not None:
                found.append((-scores[i], left, right, token[:cut], token[cut:]))
    return [(left, right) for *_, left, right in sorted(found)]
