"""A toy model whose answers are known: its blocks do nothing, so logits are a closed form of embedding plus delta.

The residual stream after token x is c·u + s(x)·g·v, with u and v orthonormal and s = +1 for capital letters, -1 for
small ones and 0 for all else. Every capital's logit reads +b along v, every small letter's -b, all others read nothing.
"""

import json
from pathlib import Path

import numpy as np
from mlx.utils import tree_flatten

from steering_core.backend.mlx import mx
from steering_core.concepts import Concept, Item, Pair
from tests.tiny import LLAMA, byte_tokenizer, random_network

WIDTH, VOCABULARY = 32, 260
ALONG_U, ALONG_V, READ = 10.0, 0.5, 4.0

CONCEPT = Concept(
    name="capitals",
    pairs=tuple(Pair(positive=a, negative=a.lower()) for a in ("AB", "CD", "EF", "GH", "IJ", "KL")),
    prompts=tuple(f"{i}, {i + 1}:" for i in range(1, 17)),
    items=tuple(Item(prompt=f"{i}?", matching="YES", not_matching="no") for i in range(20)),
)
ALL_TRAIN = CONCEPT.model_copy(
    update={"pairs": tuple(pair.model_copy(update={"split": "train"}) for pair in CONCEPT.pairs)}
)
"""The concept with all six pairs for training: four have too few labels for any verdict."""
NEUTRAL = ("Fire!", "Stop. 12!")


def axes() -> tuple[np.ndarray, np.ndarray]:
    """The orthonormal u and v, (D,) float64."""
    found, _ = np.linalg.qr(np.random.default_rng(7).standard_normal((WIDTH, 2)))
    return found[:, 0], found[:, 1]


def signs() -> np.ndarray:
    """s of every token, (V,): +1 for capital letters, -1 for small ones."""
    found = np.zeros(VOCABULARY)
    for token, i in byte_tokenizer().get_vocab().items():
        if len(token) == 1 and token.isascii() and token.isalpha():
            found[i] = 1.0 if token.isupper() else -1.0
    return found


def logits_after(token: int, along_v: float) -> np.ndarray:
    """The closed form: logits (V,) after `token`, with `along_v` added along v."""
    along = ALONG_V * signs()[token] + along_v
    rms = np.sqrt((ALONG_U**2 + along**2) / WIDTH)
    return READ * signs() * along / rms


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities (V,)."""
    return logits - np.logaddexp.reduce(logits)


def save_toy_model(folder: Path) -> Path:
    """Write the toy as an mlx-lm folder."""
    config = LLAMA | {"num_hidden_layers": 3, "tie_word_embeddings": False, "rms_norm_eps": 1e-12}
    network = random_network(config)
    u, v = axes()
    network.model.embed_tokens.weight = mx.array((ALONG_U * u + ALONG_V * signs()[:, None] * v).astype(np.float32))
    network.lm_head.weight = mx.array((READ * signs()[:, None] * v).astype(np.float32))
    network.model.norm.weight = mx.ones(WIDTH)
    for block in network.layers:
        block.self_attn.o_proj.weight = mx.zeros_like(block.self_attn.o_proj.weight)
        block.mlp.down_proj.weight = mx.zeros_like(block.mlp.down_proj.weight)
    folder.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(folder / "model.safetensors"), dict(tree_flatten(network.parameters())))
    (folder / "config.json").write_text(json.dumps(config))
    byte_tokenizer().save_pretrained(folder)
    return folder
