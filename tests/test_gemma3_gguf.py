"""A Gemma 3 GGUF becomes the network that it was written from, and its tokenizer cuts text as sentencepiece does."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quants
from mlx.utils import tree_flatten

from steering_core.backend.mlx import mx, nn
from steering_core.models import open_model
from steering_core.models.gemma3_gguf import _PARTS, _WHOLE, write_folder
from tests.tiny import random_network

SHAPE = {
    "model_type": "gemma3_text",
    "hidden_size": 32,
    "num_hidden_layers": 7,  # one more than a round of local and global windows
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 32,
    "query_pre_attn_scalar": 32,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "sliding_window": 8,
    "sliding_window_pattern": 6,
    "max_position_embeddings": 128,
}
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>"]
PIECES = [
    "th",
    "e",
    "the",
    "t",
    "h",
    "\u2581",
    "\u2581the",
    "\u2581t",
    "he",
    "c",
    "a",
    "at",
    "cat",
    "\u2581c",
    "\u2581cat",
]
USER = ["\n\n", "<start>"]
BYTES = [f"<0x{i:02X}>" for i in range(256)]
TOKENS = [*SPECIAL, *USER, *BYTES, *PIECES]
# a better score is joined first: `th` before `he`, so "the" is th + e and never t + he
SCORES = [0.0] * (len(TOKENS) - len(PIECES)) + [-float(PIECES.index(piece)) for piece in PIECES]


def write_gguf(path: Path, network: nn.Module, architecture: str = "gemma3") -> None:
    """`network` as llama.cpp's conversion writes it: norms plus one, embeddings in 8-bit blocks."""
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(SHAPE["max_position_embeddings"])
    writer.add_embedding_length(SHAPE["hidden_size"])
    writer.add_block_count(SHAPE["num_hidden_layers"])
    writer.add_feed_forward_length(SHAPE["intermediate_size"])
    writer.add_head_count(SHAPE["num_attention_heads"])
    writer.add_head_count_kv(SHAPE["num_key_value_heads"])
    writer.add_key_length(SHAPE["head_dim"])
    writer.add_layer_norm_rms_eps(SHAPE["rms_norm_eps"])
    writer.add_rope_freq_base(SHAPE["rope_theta"])
    writer.add_sliding_window(SHAPE["sliding_window"])
    writer.add_token_list(TOKENS)
    writer.add_token_scores(SCORES)
    types = [TokenType.CONTROL] * 3 + [TokenType.UNKNOWN] + [TokenType.USER_DEFINED] * len(USER)
    types += [TokenType.BYTE] * 256 + [TokenType.NORMAL] * len(PIECES)
    writer.add_token_types(types)
    for name, i in (("pad", 0), ("eos", 1), ("bos", 2), ("unk", 3)):
        getattr(writer, f"add_{name}_token_id")(i)
    theirs = {ours: name for name, ours in {**_PARTS, **_WHOLE}.items()}
    for name, values in tree_flatten(network.parameters()):
        stem, _, kind = name.rpartition(".")
        array = np.array(values.astype(mx.float32)) + (1 if "norm" in stem else 0)
        if stem.startswith("model.layers."):
            _, _, layer, part = stem.split(".", 3)
            writer.add_tensor(f"blk.{layer}.{theirs[part]}.{kind}", array)
        elif theirs[stem] == "token_embd":
            packed = quants.quantize(array, GGMLQuantizationType.Q8_0)
            writer.add_tensor(f"token_embd.{kind}", packed, raw_dtype=GGMLQuantizationType.Q8_0)
        else:
            writer.add_tensor(f"{theirs[stem]}.{kind}", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tied_network() -> nn.Module:
    """A tiny Gemma 3 whose embeddings are its output layer, as all of them are."""
    network = random_network({**SHAPE, "vocab_size": len(TOKENS)})
    network.tie_word_embeddings = True
    network.pop("lm_head")
    return network


def as_packed(network: nn.Module) -> None:
    """Round the network's embeddings to the 8-bit blocks that the file holds."""
    embedding = network.model.embed_tokens
    packed = quants.quantize(np.array(embedding.weight), GGMLQuantizationType.Q8_0)
    embedding.weight = mx.array(quants.dequantize(packed, GGMLQuantizationType.Q8_0))


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module]:
    network = tied_network()
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(path, network)
    as_packed(network)
    return path, network


def test_the_network_is_the_one_that_was_written(gguf: tuple[Path, nn.Module], tmp_path: Path) -> None:
    path, network = gguf
    write_folder(path, tmp_path / "model")
    tokens = mx.array([[2, *range(10, 40)]])  # longer than the local window
    with open_model(str(tmp_path / "model")) as model:
        assert (model.identity.n_layers, model.identity.width) == (7, 32)
        found = np.array(model.network(tokens, cache=model.new_cache()))
    np.testing.assert_allclose(found, np.array(network(tokens)), rtol=1e-4, atol=1e-4)


def test_text_is_cut_as_sentencepiece_cuts_it(gguf: tuple[Path, nn.Module], tmp_path: Path) -> None:
    write_folder(gguf[0], tmp_path / "model")
    with open_model(str(tmp_path / "model")) as model:

        def pieces(text: str) -> list[str]:
            return [TOKENS[i] for i in model.tokenizer.encode(text)]

        assert pieces("the cat") == ["<bos>", "the", "\u2581cat"]
        assert pieces("the\n\n<start>cat") == ["<bos>", "the", "\n\n", "<start>", "cat"]
        assert pieces("é") == ["<bos>", "<0xC3>", "<0xA9>"]
        for text in ("the cat", " the  cat\n\n", "é the <start>"):
            assert model.text(model.tokenizer.encode(text)[1:]) == text
        assert model.stop_tokens == {1}


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "other.gguf", tied_network(), "gemma2")
    with pytest.raises(ValueError, match="architecture gemma2, not gemma3"):
        write_folder(tmp_path / "other.gguf", tmp_path / "model")
