"""Vectors made of vectors, and files of them: round trips bit for bit, and what other tools wrote and will read."""

import contextlib
import dataclasses
import pickle
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from steering_core.exports import gguf as forms
from steering_core.exports import pytorch
from steering_core.exports.files import export_vectors, import_vectors
from steering_core.exports.foreign import Tensors
from steering_core.foundation.errors import VectorError, VectorFileError, VectorMismatch
from steering_core.models import Model
from steering_core.store import Store
from steering_core.vectors import algebra, library, saving
from steering_core.vectors.derive import derive
from steering_core.vectors.stored import vectors_by_id
from steering_core.vectors.vector import Vector, cosine
from tests.stored import LAYERS, MODEL, fill, made_up_concept, planted_directions, vector

# -- algebra ---------------------------------------------------------------------------------------------------------

weights = st.floats(-10, 10).filter(lambda w: abs(w) > 1e-3)


@settings(max_examples=30, deadline=None)
@given(a=weights, b=weights)
def test_blends_are_linear(a: float, b: float) -> None:
    one, other = vector(0), vector(1)
    found = algebra.blended([one, other], [a, b])
    np.testing.assert_allclose(found.direction, a * one.direction + b * other.direction, atol=1e-5)
    np.testing.assert_allclose(algebra.scaled(one, a).direction, a * one.direction, rtol=1e-6)
    assert found.lineage == {"made": "blended", "of": [one.vector_id, other.vector_id], "weights": [a, b], "version": 1}


def test_sums_differences_and_interpolations_are_blends() -> None:
    one, other = vector(0), vector(1)
    np.testing.assert_array_equal(algebra.added(one, other).direction, one.direction + other.direction)
    np.testing.assert_allclose(algebra.subtracted(one, other).direction, one.direction - other.direction, atol=1e-7)
    np.testing.assert_array_equal(algebra.interpolated(one, other, 0.0).direction, one.direction)
    np.testing.assert_array_equal(algebra.interpolated(one, other, 1.0).direction, other.direction)
    assert algebra.normalised(one).norm == pytest.approx(1.0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), k=st.integers(1, 4))
def test_what_is_orthogonalised_has_no_component_left(seed: int, k: int) -> None:
    one, against = vector(seed), [vector(seed + i + 1) for i in range(k)]
    found = algebra.orthogonalised(one, [*against, against[0]])  # one twice is one
    assert all(abs(cosine(found, other)) < 1e-6 for other in against)
    span = np.linalg.qr(np.array([v.direction for v in against]).T)[0]
    np.testing.assert_allclose(found.direction, one.direction - span @ (span.T @ one.direction), atol=1e-5)


def test_results_are_addressed_by_what_made_them() -> None:
    one, other = vector(0), vector(1)
    assert algebra.added(one, other).vector_id == algebra.added(one, other).vector_id
    assert algebra.added(one, other).vector_id != algebra.subtracted(one, other).vector_id


def test_what_cannot_be_combined_is_refused() -> None:
    with pytest.raises(VectorMismatch, match=r"layer 1.* cannot be blended"):
        algebra.added(vector(0), vector(1, layer=2))
    with pytest.raises(VectorMismatch, match="take vectors of one model"):
        algebra.added(vector(0), vector(1, model_id="another"))
    with pytest.raises(VectorError, match="the result is zero"):
        algebra.subtracted(vector(0), vector(0))
    with pytest.raises(VectorError, match="nothing is left"):
        algebra.orthogonalised(vector(0), [vector(0, norm=3.0)])


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def derived(store: Store) -> tuple[Store, list[Vector]]:
    """A store with one concept's vectors, one a layer, named and tagged."""
    concept = made_up_concept("calm")
    fill(store, MODEL, concept, planted_directions())
    vectors = vectors_by_id(store, derive(store, MODEL, concept, ["mean_difference"], LAYERS, "last", 0).ids)
    saving.rename(store, vectors, "serene")
    saving.tag(store, vectors[1:2], "good")
    return store, vectors


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf"])
def test_a_round_trip_through_another_store_is_bit_exact(
    derived: tuple[Store, list[Vector]], tmp_path: Path, suffix: str
) -> None:
    store, vectors = derived
    sent = vectors[1:]
    export_vectors(store, sent, tmp_path / f"v{suffix}")
    other = Store(tmp_path / "other")
    found = import_vectors(other, tmp_path / f"v{suffix}")
    assert found == sent == library.find_all(other, "serene", MODEL)
    for a, b in zip(sent, found, strict=True):
        assert a.direction.tobytes() == b.direction.tobytes()
        assert a.lineage == b.lineage
    columns = "vector_id, prompt_ids"
    before, after = (s.rows(f"SELECT {columns} FROM raw.vectors WHERE layer = 2") for s in (store, other))
    assert before == after
    assert other.rows("SELECT tags FROM vectors WHERE layer = 1") == [{"tags": ["good"]}]
    assert other.rows("SELECT * FROM models") == store.rows("SELECT * FROM models")


def test_safetensors_are_called_by_their_layers(derived: tuple[Store, list[Vector]], tmp_path: Path) -> None:
    store, vectors = derived
    export_vectors(store, vectors, tmp_path / "v.safetensors")
    assert sorted(load_file(tmp_path / "v.safetensors")) == ["layer.0", "layer.1", "layer.2", "layer.3"]
    several = [vectors[1], algebra.scaled(vectors[1], 2.0)]
    export_vectors(store, several, tmp_path / "two.safetensors")
    assert sorted(load_file(tmp_path / "two.safetensors")) == sorted(v.vector_id for v in several)
    assert import_vectors(Store(tmp_path / "other"), tmp_path / "two.safetensors") == several


def test_gguf_is_what_llama_cpp_reads(
    derived: tuple[Store, list[Vector]], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, vectors = derived
    export_vectors(store, vectors[1:], tmp_path / "v.gguf")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    fields = {name: reader.get_field(name) for name in reader.fields}
    assert fields["general.architecture"].contents() == "controlvector"
    assert fields["controlvector.model_hint"].contents() == "llama"
    assert fields["controlvector.layer_count"].contents() == 3
    assert [t.name for t in reader.tensors] == ["direction.1", "direction.2", "direction.3"]
    for tensor, sent in zip(reader.tensors, vectors[1:], strict=True):
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        assert list(tensor.shape) == [16]
        np.testing.assert_array_equal(tensor.data, sent.direction)
    with pytest.raises(VectorFileError, match=r"layer 0, and llama.cpp has no"):
        export_vectors(store, vectors[:1], tmp_path / "v0.gguf")
    assert [p.name for p in tmp_path.glob("*v*")] == ["v.gguf"]  # nothing half-written is left
    with caplog.at_level("WARNING"):
        assert export_vectors(store, vectors, tmp_path / "all.gguf") == vectors[1:]
    assert "layer 0 is left out" in caplog.text
    assert [t.name for t in gguf.GGUFReader(tmp_path / "all.gguf").tensors] == [t.name for t in reader.tensors]


def test_a_file_that_was_changed_is_refused(derived: tuple[Store, list[Vector]], tmp_path: Path) -> None:
    store, vectors = derived
    path = tmp_path / "v.safetensors"
    export_vectors(store, vectors, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(VectorFileError, match="was changed since"):
        import_vectors(store, path)


# -- other tools' files ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def layers() -> dict[int, np.ndarray]:
    random = np.random.default_rng(0)
    return {layer: random.standard_normal(32).astype(np.float32) for layer in (1, 3)}


def save_gguf(path: Path, layers: dict[int, np.ndarray], hint: str = "llama") -> None:
    """As repeng 0.4 writes it."""
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_string("controlvector.model_hint", hint)
    writer.add_uint32("controlvector.layer_count", len(layers))
    for layer, direction in layers.items():
        writer.add_tensor(f"direction.{layer}", direction)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def save_pytorch(path: Path, layers: dict[int, np.ndarray]) -> None:
    path.write_bytes(b"")
    sent = tuple(dataclasses.replace(vector(layer=1), layer=n, direction=d) for n, d in layers.items())
    from steering_core.exports.vector_file import Entry, VectorFile

    pytorch.write(path, VectorFile(MODEL, tuple(Entry(v) for v in sent)))


def save_safetensors(path: Path, layers: dict[int, np.ndarray]) -> None:
    save_file({f"layer.{n}": d for n, d in layers.items()}, path)


def test_a_file_made_for_another_architecture_says_so(
    store: Store, tiny: Model, tmp_path: Path, layers: dict[int, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    save_gguf(tmp_path / "same.gguf", layers, "LLaMA")
    import_vectors(store, tmp_path / "same.gguf", tiny)
    assert not caplog.messages
    save_gguf(tmp_path / "other.gguf", layers, "mistral")
    import_vectors(store, tmp_path / "other.gguf", tiny)
    (said,) = caplog.messages
    assert f"it says that it was made for a mistral, and {tiny.name} is a llama" in said


@pytest.mark.parametrize(
    ("file", "save"),
    [("happy.gguf", save_gguf), ("happy.pt", save_pytorch), ("happy.safetensors", save_safetensors)],
)
def test_files_of_other_tools_become_vectors_of_a_named_model(
    store: Store, tiny: Model, tmp_path: Path, layers: dict[int, np.ndarray], file: str, save: Any
) -> None:
    save(tmp_path / file, layers)
    with pytest.raises(VectorFileError, match="name it with --model"):
        import_vectors(store, tmp_path / file)
    found = import_vectors(store, tmp_path / file, tiny)
    assert found == library.find_all(store, "happy", tiny.identity)
    assert [v.layer for v in found] == [1, 3]
    for v in found:
        assert v.direction.tobytes() == layers[v.layer].tobytes()
        assert v.residual_norm > 0  # measured on neutral prompts
    assert import_vectors(store, tmp_path / file, tiny) == found
    other = import_vectors(store, tmp_path / file, tiny, "other")
    assert library.find_all(store, "happy", tiny.identity) == found  # the first name stays
    assert library.find_all(store, "other", tiny.identity) == other
    np.testing.assert_array_equal(other[0].direction, found[0].direction)


def test_directions_that_do_not_fit_the_model_are_refused(store: Store, tiny: Model, tmp_path: Path) -> None:
    for layers in ({1: np.ones(31, np.float32)}, {40: np.ones(32, np.float32)}):
        save_gguf(tmp_path / "bad.gguf", layers)
        with pytest.raises(VectorFileError, match=r"has layers 0\.\.3 of width 32"):
            import_vectors(store, tmp_path / "bad.gguf", tiny)
    save_gguf(tmp_path / "zero.gguf", {1: np.zeros(32, np.float32)})
    with pytest.raises(VectorFileError, match="direction of layer 1 is zero"):
        import_vectors(store, tmp_path / "zero.gguf", tiny)


@pytest.mark.parametrize("suffix", [".gguf", ".safetensors", ".pt", ".bin"])
def test_what_is_no_vector_file_is_named(store: Store, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(b"not a vector at all" * 10)
    with pytest.raises(VectorFileError, match="junk"):
        import_vectors(store, path)
    with pytest.raises(VectorFileError, match="gone"):
        import_vectors(store, tmp_path / f"gone{suffix}")


class Evil:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "evil.pt", "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({1: Evil()}, protocol=2))
    with pytest.raises(VectorFileError, match=r"__builtin__\.print, which no steering vector needs"):
        pytorch.read(tmp_path / "evil.pt")
    assert capsys.readouterr().out == ""


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path, layers: dict[int, np.ndarray]) -> None:
    save_pytorch(tmp_path / "v.pt", layers)
    with zipfile.ZipFile(tmp_path / "v.pt") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["vectors/data/0"] = parts["vectors/data/0"][:-8]
    with zipfile.ZipFile(tmp_path / "short.pt", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(VectorFileError, match="cannot be read"):
        pytorch.read(tmp_path / "short.pt")


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 500), flipped=st.integers(0, 250), bits=st.integers(0, 255))
def test_a_damaged_gguf_is_one_clear_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flipped: int, bits: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "whole.gguf"
    writer = gguf.GGUFWriter(path, "controlvector")
    writer.add_tensor("direction.1", np.ones(64, np.float32))
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    content = bytearray(path.read_bytes())
    content[flipped % len(content)] ^= bits
    path.write_bytes(bytes(content[: len(content) - cut]))
    with contextlib.suppress(VectorFileError):
        found = forms.read(path)
        assert isinstance(found, Tensors)
        assert list(found.named) == ["direction.1"]  # what was hit is padding, or a number of the direction
