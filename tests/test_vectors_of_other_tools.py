"""Vectors that other tools wrote: layers are read as the file says, and what it does not say is asked for."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from steering_core.exports import pytorch
from steering_core.exports.files import FORMS, export_vectors, import_vectors
from steering_core.exports.foreign import ForeignReading, Tensors, layers_of
from steering_core.exports.tensor_names import Convention, named_place
from steering_core.exports.vector_file import VectorFile
from steering_core.foundation.errors import VectorFileError
from steering_core.models import Model
from steering_core.store import Store
from tests.foreign_files import LAYERS, RANDOM, archive
from tests.mutants import MODEL, WIDTH

ROW = RANDOM[0, 0]
PRE, POST, HIDDEN = Convention.RESID_PRE, Convention.RESID_POST, Convention.HIDDEN_STATES


def layers(
    tensors: Tensors | VectorFile | dict[str, np.ndarray], reading: ForeignReading | None = None
) -> dict[int, np.ndarray]:
    """What is read of tensors, for a model of 4 layers of width 32."""
    assert not isinstance(tensors, VectorFile)
    given = tensors if isinstance(tensors, Tensors) else Tensors(tensors)
    return layers_of(given, Path("v.pt"), MODEL, reading or ForeignReading())


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("2", 2), ("layer.2", 2), ("layer_2", 2), ("direction.2", 2), ("resid_post.2", 2), ("hook_resid_post.2", 2),
        ("blocks.2.hook_resid_post", 2), ("layers_output.2", 2), ("model.layers.2", 2), ("model.layers.2.output.0", 2),
        ("model.layers.2.output[0]", 2), ("transformer.h.2", 2), ("layer_activations.2", 2),
        ("BLOCKS.2.HOOK_RESID_POST", 2),
        ("hook_resid_pre.2", 1), ("resid_pre.2", 1), ("blocks.2.hook_resid_pre", 1), ("layers_input.2", 1),
        ("model.layers.2.input", 1), ("hidden_states.2", 1),
    ],
)  # fmt: skip
def test_a_name_says_its_layer(name: str, layer: int) -> None:
    assert list(layers({name: ROW})) == [layer]
    assert list(layers({name: ROW[None]})) == [layer]  # (1, D)


def test_what_is_before_block_0_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        assert list(layers({"hook_resid_pre.0": ROW, "hook_resid_pre.1": ROW})) == [0]
    assert "'hook_resid_pre.0' is of the embeddings" in caplog.text
    with pytest.raises(VectorFileError, match="it is all of the embeddings"):
        layers({"resid_pre.0": ROW})


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("mlp_out.2", "mlp"), ("attn.2", "attn"), ("blocks.2.attn.hook_z", "attn"), ("z.2", "z"), ("hook_z.2", "z"),
        ("blocks.2.hook_mlp_out", "mlp"), ("mlps_output.2", "mlps"), ("model.layers.2.mlp.down_proj", "mlp"),
        ("blocks.2.hook_resid_mid", "mid"), ("attentions_output.2", "attentions"), ("hook_embed", "embed"),
        ("model.layers.2.input_layernorm", "layernorm"),
    ],
)  # fmt: skip
def test_what_is_not_of_the_residual_stream_is_refused(name: str, word: str) -> None:
    with pytest.raises(VectorFileError, match=rf"residual stream between the blocks \({word}\)"):
        layers({name: ROW})
    with pytest.raises(VectorFileError, match=rf"\({word}\).*--tensor resid_post\.2"):
        layers({name: ROW, "resid_post.2": ROW})
    assert list(layers({name: ROW, "resid_post.2": ROW}, ForeignReading(tensor="resid_post.2"))) == [2]


def test_two_tensors_of_one_layer_are_never_one_vector() -> None:
    with pytest.raises(VectorFileError, match=r"two tensors for layer 2, 'resid_post\.2' and 'resid_pre\.3'"):
        layers({"resid_post.2": ROW, "resid_pre.3": ROW})
    with pytest.raises(VectorFileError, match="more than one direction for one layer"):
        layers({"resid_post.2": RANDOM[0, :2]})


def test_an_unknown_name_is_asked_about() -> None:
    assert named_place("joy.2") is None
    assert named_place("model.layers.2.expert.3") is None
    with pytest.raises(VectorFileError, match=r"'joy\.2'.*--model tiny --tensor joy\.2 --layer N"):
        layers({"joy.2": ROW})
    assert list(layers({"joy.2": ROW}, ForeignReading(tensor="joy.2", layer=2))) == [2]
    with pytest.raises(VectorFileError, match=r"names its layers itself \('layer\.2'\): leave --layer out"):
        layers({"layer.2": ROW}, ForeignReading(layer=1))


# -- shapes ----------------------------------------------------------------------------------------------------------


def test_a_bare_direction_needs_its_layer() -> None:
    for named in ({"": ROW}, {"vector": ROW}, {"layer": ROW}, {"": ROW[None]}):
        with pytest.raises(VectorFileError, match=r"does not say its layer; read it with: .* --model tiny --layer N"):
            layers(named)
        assert list(layers(named, ForeignReading(layer=2))) == [2]
        assert list(layers(named, ForeignReading(layer=2, convention=PRE))) == [1]
    with pytest.raises(VectorFileError, match="embeddings, before block 0"):
        layers({"": ROW}, ForeignReading(layer=0, convention=HIDDEN))
    with pytest.raises(VectorFileError, match=r"--layer 12"):
        layers_of(Tensors({"": ROW}), Path("caa-layer_12.npy"), MODEL, ForeignReading())


def test_rows_by_layer_are_the_blocks_outputs() -> None:
    rows = RANDOM[0, :LAYERS]
    found = layers({"steering_vectors": rows})
    assert list(found) == [0, 1, 2, 3]
    np.testing.assert_array_equal(found[2], rows[2])
    before = layers({"": rows}, ForeignReading(convention=PRE))
    assert list(before) == [0, 1, 2]
    np.testing.assert_array_equal(before[0], rows[1])
    (one,) = layers({"": rows}, ForeignReading(layer=2, convention=PRE)).items()
    assert one[0] == 1
    np.testing.assert_array_equal(one[1], rows[2])


def test_row_0_of_one_row_more_is_the_embeddings(caplog: pytest.LogCaptureFixture) -> None:
    rows = RANDOM[0]
    with caplog.at_level("WARNING"):
        found = layers({"": rows})
    assert list(found) == [0, 1, 2, 3]
    np.testing.assert_array_equal(found[0], rows[1])
    assert "row 0 is the embeddings" in caplog.text
    (one,) = layers({"": rows}, ForeignReading(layer=2)).items()
    assert one[0] == 1
    np.testing.assert_array_equal(one[1], rows[2])
    with pytest.raises(VectorFileError, match="leave --convention resid_post out"):
        layers({"": rows}, ForeignReading(convention=POST))


def test_positions_are_chosen() -> None:
    means = RANDOM[:, :LAYERS]  # (positions, layers, D), as refusal_direction writes them
    with pytest.raises(VectorFileError, match=r"3 positions.* --position -1 --convention resid_pre$"):
        layers({"": means})
    with pytest.raises(VectorFileError, match=r"resid_pre, as refusal.*--position -2 --convention resid_pre$"):
        layers({"": means}, ForeignReading(position=-2))
    with pytest.raises(VectorFileError, match=r"--position is -3\.\.2, not 3"):
        layers({"": means}, ForeignReading(position=3, convention=PRE))
    (one,) = layers({"": means}, ForeignReading(layer=3, position=-2, convention=PRE)).items()
    assert one[0] == 2
    np.testing.assert_array_equal(one[1], means[-2, 3])
    assert list(layers({"": means}, ForeignReading(position=0, convention=POST))) == [0, 1, 2, 3]
    assert list(layers({"": RANDOM}, ForeignReading(position=0))) == [0, 1, 2, 3]  # one row more: no convention needed


def test_a_zero_layer_is_left_out_and_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("WARNING"):
        assert list(layers({"direction.1": ROW, "direction.2": 0 * ROW})) == [1]
    assert "the direction of layer 2 is zero, and is left out" in caplog.text
    with pytest.raises(VectorFileError, match=r"layer 2 in .* is not finite"):
        layers({"direction.1": ROW, "direction.2": ROW * np.inf})


# -- NumPy, PyTorch --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_numpy_files_are_read(tmp_path: Path, dtype: str) -> None:
    rows = RANDOM[0, :LAYERS].astype(dtype)
    np.save(tmp_path / "v.npy", np.asfortranarray(rows))
    np.savez_compressed(tmp_path / "v.npz", **{"2": rows[2]})
    for file, expected in (("v.npy", [0, 1, 2, 3]), ("v.npz", [2])):
        found = layers(FORMS[Path(file).suffix].read(tmp_path / file))
        assert list(found) == expected
        np.testing.assert_array_equal(found[2], rows[2].astype(np.float32))


def test_svec_files_are_read_and_written(store: Store, tiny: Model, tmp_path: Path) -> None:
    file = tmp_path / "v.svec"
    named = {"model_type": "llama", "directions": {"2": ROW.tolist(), "0": [1] * WIDTH}, "explained_variances": {}}
    file.write_text(json.dumps(named))
    vectors = import_vectors(store, file, tiny, "v")
    assert [vector.layer for vector in vectors] == [0, 2]
    np.testing.assert_allclose(vectors[1].direction, ROW, rtol=1e-6)
    export_vectors(store, vectors, tmp_path / "again.svec")
    again = json.loads((tmp_path / "again.svec").read_text())
    assert again["model_type"] == "llama"
    np.testing.assert_allclose(again["directions"]["2"], ROW, rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1", "is JSON"),
        ("[" * 100_000, "is JSON"),
        ("[]", "no `directions` by layer"),
        ('{"directions": {}}', "no `directions` by layer"),
        ('{"directions": {"-1": [1.0]}}', "a direction for '-1'"),
        ('{"directions": {"1": [1.0], "01": [2.0]}}', "two directions for one layer"),
        ('{"directions": {"1": [1.0, true]}}', "must be a list of numbers"),
    ],
)
def test_what_is_no_svec_file_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "v.svec").write_text(text)
    with pytest.raises(VectorFileError, match=said):
        FORMS[".svec"].read(tmp_path / "v.svec")


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_no_pickle_is_opened(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "v.npy", np.array([Evil()], object), allow_pickle=True)
    (tmp_path / "v.pkl").write_bytes(pickle.dumps(Evil()))
    (tmp_path / "v.pt").write_bytes(pickle.dumps(ROW))
    for file in ("v.npy", "v.pkl", "v.pt"):
        with pytest.raises(VectorFileError, match=r"(could|can) run code.*np\.save"):
            import_vectors(store, tmp_path / file)
    assert capsys.readouterr().out == ""


def test_a_bomb_of_zeros_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("steering_core.exports.numpy_files.MAX_UNPACKED", 1 << 20)
    np.savez_compressed(tmp_path / "v.npz", zeros=np.zeros((LAYERS, 1 << 18), np.float32))
    with pytest.raises(VectorFileError, match="unpacks to far more than its size"):
        FORMS[".npz"].read(tmp_path / "v.npz")


def test_pytorch_files_of_a_tensor_a_list_and_a_dict_are_read(tmp_path: Path) -> None:
    tensor = pytorch._tensor(0, WIDTH)
    other = pytorch._tensor(0, WIDTH)
    bodies: dict[str, tuple[bytes, ForeignReading, list[int]]] = {
        "tensor": (tensor, ForeignReading(layer=2), [2]),
        "text keys": (b"}(" + pytorch._text("2") + tensor + b"u", ForeignReading(), [2]),
        "nested": (b"}(" + pytorch._text("layers") + b"}(" + pytorch._int(2) + tensor + b"uu", ForeignReading(), [2]),
        "list": (b"](" + tensor + other + tensor + other + b"e", ForeignReading(), [0, 1, 2, 3]),
    }
    for name, (body, reading, expected) in bodies.items():
        found = layers(pytorch.read(archive(tmp_path / f"{name}.pt", body, ROW.tobytes())), reading)
        assert list(found) == expected
        assert found[2].tobytes() == ROW.tobytes()


def test_a_tensor_named_very_often_is_refused(tmp_path: Path) -> None:
    body = pytorch._tensor(0, WIDTH) + b"q\x010](" + b"h\x01" * 50_000 + b"e"
    with pytest.raises(VectorFileError, match=r"cannot be read|names more tensors than it holds"):
        pytorch.read(archive(tmp_path / "v.pt", body, ROW.tobytes()))


def test_what_a_pytorch_file_has_too_much_of_is_told(tmp_path: Path) -> None:
    tensor, key = pytorch._tensor(0, WIDTH), pytorch._text("a")
    twice = b"}(" + pytorch._text("1") + tensor + pytorch._int(1) + tensor + b"u"
    with pytest.raises(VectorFileError, match="has two tensors called '1': save the vectors alone"):
        pytorch.read(archive(tmp_path / "twice.pt", twice, ROW.tobytes()))
    deep = (b"}(" + key) * 5 + tensor + b"u" * 5
    with pytest.raises(VectorFileError, match="has dicts in dicts, more than 4 deep: save the vectors alone"):
        pytorch.read(archive(tmp_path / "deep.pt", deep, ROW.tobytes()))


def test_bfloat16_safetensors_are_read(tmp_path: Path) -> None:
    header = b'{"layer.2":{"dtype":"BF16","shape":[32],"data_offsets":[0,64]}}'
    upper = (ROW.view("<u4") >> 16).astype("<u2")
    (tmp_path / "v.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + upper.tobytes())
    (found,) = layers(FORMS[".safetensors"].read(tmp_path / "v.safetensors")).values()
    np.testing.assert_allclose(found, ROW, rtol=2**-7)
    save_file({"layer.2": np.arange(WIDTH)}, tmp_path / "whole.safetensors")
    with pytest.raises(VectorFileError, match="holds I64"):
        FORMS[".safetensors"].read(tmp_path / "whole.safetensors")
