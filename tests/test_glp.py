"""GGUF control vectors that declare what they are for (GLP), and GGUF files as other tools write them."""

from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from typer.testing import CliRunner

from steering_core.cli.vectors import app
from steering_core.exports.files import export_vectors, import_vectors
from steering_core.exports.foreign import ForeignReading, Tensors
from steering_core.exports.gguf import read
from steering_core.exports.vector_file import FileOperation, VectorFile
from steering_core.foundation.errors import InterventionError, VectorFileError
from steering_core.models import Model
from steering_core.store import Store
from steering_core.vectors import algebra, library, saving
from steering_core.vectors.resolve import resolved
from tests.foreign_files import GLP, UNIT, written

PROJECT = ForeignReading(operation=FileOperation.PROJECT)


def test_a_projection_never_comes_in_as_an_addition(
    store: Store, tiny: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = written(tmp_path / "refusal.gguf", {"direction.1": UNIT[0], "direction.2": UNIT[1]}, GLP)
    with pytest.raises(VectorFileError, match=r"import it with --operation project, and steer with ablate\(NAME\)"):
        import_vectors(store, path, tiny)
    assert not store.rows("SELECT 1 FROM raw.vectors")
    with caplog.at_level("WARNING"):
        found = import_vectors(store, path, tiny, reading=PROJECT)
    assert "steer with ablate(NAME)" in caplog.text
    assert [v.layer for v in found] == [1, 2]
    assert found[0].direction.tobytes() == UNIT[0].tobytes()
    assert found[0].lineage["operation"] == "project"
    assert found[0].lineage["alpha"] == 4.0
    assert store.rows("SELECT tags FROM vectors WHERE layer = 1") == [{"tags": ["project"]}]
    for adding in ("imported/1", "2*imported/1 + imported/2", "between(imported/1, imported/2, 0.5)"):
        with pytest.raises(InterventionError, match="a direction to take out of the stream") as refused:
            resolved(adding.replace("imported", "refusal"), partial(library.find, store))
        assert "write !refusal/" in str(refused.value)
    with pytest.raises(InterventionError, match="blend"):
        found[0].intervention(1.0, "all")
    assert resolved("!refusal/1", partial(library.find, store)).changes[0].operation == "ablate"
    allowed = algebra.scaled(found[0], 2.0)
    saving.save(store, [allowed], "towards")
    assert resolved("towards", partial(library.find, store)).changes[0].direction is not None
    added = written(tmp_path / "happy.gguf", {"direction.1": UNIT[0]}, {**GLP, "glp.mode": "add"})
    with pytest.raises(VectorFileError, match="vectors to add, not to project out"):
        import_vectors(store, added, tiny, reading=PROJECT)
    assert len(import_vectors(store, added, tiny)) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("glp.mode", "ablate"), ("glp.mode", "PROJECT"), ("glp.hook_point", "ffn_out_pre_residual"),
        ("glp.hook_point", "resid_mid"), ("glp.spec_version", 2), ("glp.rank", 2), ("glp.dir_scales", "1,0.5"),
        ("glp.layer_scales", "1:2"), ("glp.layer_ids_zero_based", "2"), ("glp.content_sha256", "0" * 64),
        ("glp.alpha_default", float("nan")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("mode", ["project", "add"])
def test_what_it_declares_and_nobody_knows_is_fatal(tmp_path: Path, field: str, value: Any, mode: str) -> None:
    assert read(written(tmp_path / "v.gguf", {"direction.1": UNIT[0]}, {**GLP, "glp.mode": mode}))
    path = written(tmp_path / "w.gguf", {"direction.1": UNIT[0]}, {**GLP, "glp.mode": mode, field: value})
    with pytest.raises(VectorFileError, match=field.rpartition(".")[2] + "|more than|changed since"):
        read(path)


def test_what_its_specification_forbids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VectorFileError, match=r"direction\.0, which its specification forbids"):
        read(written(tmp_path / "a.gguf", {"direction.0": UNIT[0], "direction.1": UNIT[1]}, GLP))
    with pytest.raises(VectorFileError, match=r"direction\.1 has not length 1"):
        read(written(tmp_path / "b.gguf", {"direction.1": 3 * UNIT[0]}, GLP))
    with pytest.raises(VectorFileError, match=r"direction\.1\.1, a second direction of one layer"):
        read(written(tmp_path / "c.gguf", {"direction.1": UNIT[0], "direction.1.1": UNIT[1]}))


def test_what_is_exported_says_what_it_is_for(store: Store, tiny: Model, tmp_path: Path) -> None:
    source = written(tmp_path / "happy.gguf", {"direction.1": 3 * UNIT[0], "direction.3": 2 * UNIT[2]})
    vectors = import_vectors(store, source, tiny)
    export_vectors(store, vectors, tmp_path / "added.gguf")
    export_vectors(store, vectors, tmp_path / "out.gguf", FileOperation.PROJECT)
    for file, mode, length in (("added.gguf", "add", 3.0), ("out.gguf", "project", 1.0)):
        reader = gguf.GGUFReader(tmp_path / file)
        said = {name: field.contents() for name, field in reader.fields.items() if name.startswith("glp.")}
        assert said["glp.mode"] == mode
        assert said["glp.hook_point"] == "residual_stream_post_layer"
        assert said["glp.spec_version"] == 1
        assert said["glp.layer_ids_zero_based"] == "1,3"
        np.testing.assert_array_equal(reader.tensors[0].data, length * UNIT[0])
        own = read(tmp_path / file)
        assert isinstance(own, VectorFile)
        assert own.operation == mode
    other = Store(tmp_path / "other")
    with pytest.raises(VectorFileError, match="--operation project"):
        import_vectors(other, tmp_path / "out.gguf")
    found = import_vectors(other, tmp_path / "out.gguf", reading=PROJECT)
    assert found == library.find_all(other, found[0].vector_id) + library.find_all(other, found[1].vector_id)
    with pytest.raises(InterventionError, match=rf"blend {found[0].vector_id} --name NEW"):
        resolved(f"2*{found[0].vector_id}", partial(library.find, other))
    assert resolved(f"!{found[0].vector_id}", partial(library.find, other)).changes[0].operation == "ablate"
    export_vectors(other, found, tmp_path / "again.gguf", FileOperation.PROJECT)
    again = read(tmp_path / "again.gguf")
    assert isinstance(again, VectorFile)
    assert [entry.vector for entry in again.entries] == found  # one that is to be projected stays as it is
    for ending in ("gguf", "pt", "npz", "npy", "svec"):  # their readers would add it
        with pytest.raises(VectorFileError, match=r"would add it: export it to FILE\.gguf with --operation project"):
            export_vectors(other, found, tmp_path / f"wrong.{ending}")
        assert not (tmp_path / f"wrong.{ending}").exists()
    key, to = found[0].vector_id, tmp_path / "wrong.gguf"
    options = ["--to", str(to), "--alpha", "2", "--store", str(other.root)]
    assert "would add it" in str(CliRunner().invoke(app, ["export", key, *options]).exception)
    export_vectors(other, found, tmp_path / "kept.safetensors")
    kept = import_vectors(Store(tmp_path / "third"), tmp_path / "kept.safetensors")
    assert [vector.lineage["operation"] for vector in kept] == ["project", "project"]
    with pytest.raises(VectorFileError, match=r"cannot say that its vectors are projected out.*FILE\.gguf"):
        export_vectors(store, vectors, tmp_path / "out.safetensors", FileOperation.PROJECT)


def test_gguf_files_of_other_tools(store: Store, tiny: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tensors = {"DIRECTION.1": UNIT[1][None], "direction.2": 0 * UNIT[2], "direction.3": UNIT[3], "bias.1": UNIT[0]}
    with caplog.at_level("WARNING"):
        found = import_vectors(store, written(tmp_path / "HAPPY.GGUF", tensors), tiny)
    assert {v.layer: v.direction.tobytes() for v in found} == {1: UNIT[1].tobytes(), 3: UNIT[3].tobytes()}
    assert "bias.1: no direction.N, and left out" in caplog.text
    assert "the direction of layer 2 is zero, and is left out" in caplog.text
    with pytest.raises(VectorFileError, match="two tensors for layer 1"):
        read(written(tmp_path / "two.gguf", {"direction.1": UNIT[1], "direction.01": UNIT[2]}))
    with pytest.raises(VectorFileError, match=r"no tensor direction\.N"):
        read(written(tmp_path / "none.gguf", {f"direction.{'9' * 5000}": UNIT[1]}))


def test_quantised_directions_are_numbers_not_bytes(tmp_path: Path) -> None:
    path = tmp_path / "q8.gguf"
    direction = np.random.default_rng(5).standard_normal(32).astype(np.float32)
    writer = gguf.GGUFWriter(path, "controlvector")
    packed = gguf.quants.quantize(direction, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("direction.1", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    found = read(path)
    assert isinstance(found, Tensors)
    np.testing.assert_allclose(found.named["direction.1"], direction, atol=0.02)
