"""Models that mlx-lm has loaded already: steered as they are, and known by what they hold."""

from pathlib import Path
from typing import Any

import mlx_lm
import numpy as np
import pytest
from mlx_lm.tuner.utils import linear_to_lora_layers

import steering_core as steer
from steering_core.backend.mlx import mx, nn
from steering_core.foundation.errors import ModelUnsupported, VectorMismatch
from steering_core.models import Model
from tests.tiny import LLAMA, byte_tokenizer, save_tiny_model

SHORT = steer.Sampling(max_tokens=8)
Loaded = tuple[Any, Any]


@pytest.fixture
def loaded(tiny_folder: Path) -> Loaded:
    return mlx_lm.load(str(tiny_folder))[:2]


def test_what_mlx_lm_loaded_is_the_model_of_its_folder(tiny: Model, loaded: Loaded, tmp_path: Path) -> None:
    network, tokenizer = loaded
    model = steer.from_mlx_lm(network, tokenizer, name="mine")
    assert model.network is network
    assert model.tokenizer is tokenizer
    assert model.identity.model_id == tiny.identity.model_id
    assert repr(model).startswith("<Model mine: llama, 4 layers, width 32, float32, loaded")
    vector = steer.contrast(tiny, "I love it", "I hate it", layer=1)
    steer.save_vector(tiny, vector, "glad", tmp_path / "store")
    for what in (None, vector, "4*glad"):
        texts = [steer.generate(m, "Hello", what, sampling=SHORT, store=tmp_path / "store") for m in (tiny, model)]
        assert texts[0] == texts[1]
    assert texts[0] != steer.generate(tiny, "Hello", sampling=SHORT)


def test_closing_leaves_the_network_as_it_was(loaded: Loaded) -> None:
    network, tokenizer = loaded
    classes = [type(block) for block in network.layers]
    before = network(mx.array([[1, 2, 3]]))
    with steer.from_mlx_lm(network, tokenizer) as model:
        again = steer.from_mlx_lm(network, tokenizer)  # a notebook's cell that is run twice
        assert again.taps is model.taps
        vector = steer.contrast(again, "yes", "no", layer=2)
        assert mx.array_equal(network(mx.array([[1, 2, 3]])), before).item()
    assert steer.generate(again, "Hello", vector, alpha=4, sampling=SHORT) != steer.generate(
        again, "Hello", sampling=SHORT
    )
    again.close()
    assert [type(block) for block in network.layers] == classes
    assert steer.generate(again, "Hello", sampling=SHORT) is not None  # used again, it is tapped again
    again.close()


def adapted(network: nn.Module) -> None:
    linear_to_lora_layers(network, 2, {"rank": 2, "scale": 1.0, "dropout": 0.0})


def trained_on(network: nn.Module) -> None:
    network.model.norm.weight = network.model.norm.weight * 1.001


def quantised(network: nn.Module) -> None:
    nn.quantize(network, group_size=32, bits=4)


def set_otherwise(network: nn.Module) -> None:
    network.args.rope_theta = 5000.0


@pytest.mark.parametrize("change", [adapted, trained_on, quantised, set_otherwise])
def test_what_was_changed_in_memory_is_a_model_of_its_own(tiny: Model, loaded: Loaded, change: Any) -> None:
    network, tokenizer = loaded
    change(network)
    network.eval()
    model = steer.from_mlx_lm(network, tokenizer)
    assert model.identity.model_id != tiny.identity.model_id
    assert model.identity.model_id == steer.from_mlx_lm(network, tokenizer).identity.model_id
    with pytest.raises(VectorMismatch, match="was made for model"):
        steer.generate(model, "Hello", steer.contrast(tiny, "yes", "no", layer=1))
    own = steer.contrast(model, "I love it", "I hate it", layer=1)
    assert steer.generate(model, "Hello", own, alpha=4, sampling=SHORT) is not None
    assert model.identity.quantisation == ("4-bit" if change is quantised else "none")
    assert model.identity.context == LLAMA["max_position_embeddings"]


def test_another_tokenizer_or_files_changed_since_make_another_model(tmp_path: Path, tiny: Model) -> None:
    folder = save_tiny_model(tmp_path / "model")
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    network, tokenizer = mlx_lm.load(str(folder), tokenizer_config={"chat_template": template})[:2]
    assert steer.from_mlx_lm(network, tokenizer).identity.model_id != tiny.identity.model_id
    network, tokenizer = mlx_lm.load(str(folder))[:2]
    mine = steer.from_mlx_lm(network, tokenizer).identity.model_id
    assert mine == tiny.identity.model_id
    save_tiny_model(folder, seed=1)
    moved = steer.from_mlx_lm(network, tokenizer).identity
    assert moved.model_id != steer.open_model(str(folder)).identity.model_id


def test_what_cannot_be_taken_is_told(loaded: Loaded) -> None:
    network, tokenizer = loaded
    with pytest.raises(ModelUnsupported, match=r"a str and a TokenizerWrapper: from_mlx_lm\(\*mlx_lm.load"):
        steer.from_mlx_lm("tiny", tokenizer)  # type: ignore[arg-type]
    with pytest.raises(ModelUnsupported, match="TokenizersBackend"):
        steer.from_mlx_lm(network, byte_tokenizer())  # type: ignore[arg-type]
    network.train()
    with pytest.raises(ModelUnsupported, match=r"call its eval\(\)"):
        steer.from_mlx_lm(network, tokenizer)
    network.eval()
    with pytest.raises(ModelUnsupported, match="handed over loaded"):
        _ = steer.from_mlx_lm(network, tokenizer).folder


@pytest.mark.real
def test_the_embedded_model_loaded_by_mlx_lm_takes_the_store_s_vectors(real: Model) -> None:
    network, tokenizer = mlx_lm.load(str(real.folder))[:2]
    model = steer.from_mlx_lm(network, tokenizer)
    assert model.identity.model_id == real.identity.model_id
    np.testing.assert_array_equal(
        steer.contrast(model, "Love", "Hate", layer=15).direction,
        steer.contrast(real, "Love", "Hate", layer=15).direction,
    )
    model.close()
