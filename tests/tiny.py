"""Tiny random models, written as mlx-lm folders: every test that needs a network but no meaning uses one."""

import json
from pathlib import Path
from typing import Any

from mlx.utils import tree_flatten
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from steering_core.backend.mlx import mx, nn

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "vocab_size": 260,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}


def save_tiny_model(folder: Path, config: dict[str, Any] | None = None, seed: int = 0) -> Path:
    """Write a tiny random model with a byte tokenizer and a chat template; weights are drawn from `seed`."""
    save_network(folder, {**LLAMA, **(config or {})}, seed)
    byte_tokenizer().save_pretrained(folder)
    return folder


def save_network(folder: Path, config: dict[str, Any], seed: int = 0) -> None:
    """Write a random network and its configuration, without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    network = random_network(config, seed)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(network.parameters())))
    (folder / "config.json").write_text(json.dumps(config))


WIDE = 128  # inputs of a product


def random_network(config: dict[str, Any], seed: int = 0) -> nn.Module:
    """A network of mlx-lm's own class for `config`, with random weights large enough that every layer matters.

    Those of more than `WIDE` inputs are smaller the more there are, as trained ones are. Else scores of attention would
    grow with the width until the softmax chose one token, and would enlarge rounding a hundred times.
    """
    from mlx_lm.utils import _get_classes

    model_class, args_class = _get_classes(config)
    network = model_class(args_class.from_dict(config))
    keys = iter(mx.random.split(mx.random.key(seed), 10_000))

    def drawn(parameter: mx.array) -> mx.array:
        scale = 0.2 * min(1.0, (WIDE / parameter.shape[-1]) ** 0.5) if parameter.ndim > 1 else 0.05
        noise = scale * mx.random.normal(parameter.shape, key=next(keys))
        return noise.astype(parameter.dtype) if parameter.ndim > 1 else (1 + noise).astype(parameter.dtype)

    network.apply(drawn)
    mx.eval(network.parameters())
    return network


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token a byte, and the chat template's markers."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|end|>", additional_special_tokens=SPECIAL[1:]
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
