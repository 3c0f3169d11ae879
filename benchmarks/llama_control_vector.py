"""Does an exported control vector do in llama.cpp what the vector does here? Opt-in: needs llama-cpp-python.

    pip install llama-cpp-python        # builds llama.cpp, some 15 minutes on two cores
    python -m benchmarks.llama_control_vector MODEL.gguf VECTOR.gguf PROMPT...

Both engines steer the prompt's every position with the same file; printed is, for each prompt, the correlation of the
two shifts of the next token's logits (steered minus unsteered) over the whole vocabulary, and the ratio of their sizes.
llama.cpp computes with the GGUF's quantised weights, this project with their float32 values, so 1 is not to be had.
"""

import ctypes
import tempfile
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np

from benchmarks.telling import left_out, options
from steering_core.backend.mlx import mx
from steering_core.engine.steering import Steering
from steering_core.interventions.change import Change, Intervention, Where
from steering_core.models import Model, open_model
from tests.tiny import save_tiny_model

try:
    import llama_cpp
except ImportError:  # no requirement of steerflow's
    llama_cpp = None


def directions(path: Path) -> dict[int, np.ndarray]:
    """direction.N of a control vector, as llama.cpp reads it."""
    return {int(t.name.rpartition(".")[2]): np.array(t.data, np.float32) for t in gguf.GGUFReader(path).tensors}


class Llama:
    """One llama.cpp context on a CPU."""

    def __init__(self, path: Path) -> None:
        llama_cpp.llama_backend_init()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = 512
        self.context = llama_cpp.llama_init_from_model(self.model, options)
        self.width = llama_cpp.llama_model_n_embd(self.model)
        self.n_layers = llama_cpp.llama_model_n_layer(self.model)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def steer(self, vectors: dict[int, np.ndarray]) -> None:
        """Apply a control vector: a buffer of layers 1 .. n - 1, as common_control_vector_load lays it out."""
        buffer = np.zeros((self.n_layers - 1, self.width), np.float32)
        for layer, direction in vectors.items():
            buffer[layer - 1] = direction
        data = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        if llama_cpp.llama_set_adapter_cvec(self.context, data, buffer.size, self.width, 1, self.n_layers):
            raise RuntimeError("llama.cpp refused the control vector")

    def logits(self, tokens: list[int]) -> np.ndarray:
        """Logits after the last token, (V,)."""
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)
        held = (llama_cpp.llama_token * len(tokens))(*tokens)  # the batch only points to it
        batch = llama_cpp.llama_batch_get_one(held, len(tokens))
        if llama_cpp.llama_decode(self.context, batch):
            raise RuntimeError("llama.cpp could not decode the prompt")
        found = llama_cpp.llama_get_logits_ith(self.context, -1)
        return np.ctypeslib.as_array(found, (self.vocabulary,)).copy()

    def shift(self, tokens: list[int], vectors: dict[int, np.ndarray]) -> np.ndarray:
        """Steered minus unsteered logits, (V,)."""
        self.steer({})
        base = self.logits(tokens)
        self.steer(vectors)
        return self.logits(tokens) - base


def our_shift(model: Model, tokens: list[int], vectors: dict[int, np.ndarray]) -> np.ndarray:
    """The same here, with every vector added at every position, (V,)."""
    changes = tuple(Change(layer, d, 1.0, "add", Where("all")) for layer, d in sorted(vectors.items()))
    logits = []
    for intervention in (Intervention(), Intervention(changes)):
        with model.taps.applied(Steering([intervention], [len(tokens)]).edits(0, len(tokens))):
            logits.append(np.array(model.network(mx.array([tokens]))[0, -1].astype(mx.float32)))
    return logits[1] - logits[0]


def some_vectors(folder: Path, model: Model) -> Path:
    """A control vector of random directions at layers 1 and 2, as a file."""
    path, drawn = folder / "vector.gguf", np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "controlvector")
    for layer in (1, 2):
        writer.add_tensor(f"direction.{layer}", drawn.standard_normal(model.identity.width).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def compare(model: Model, llama: Llama, vectors: dict[int, np.ndarray], prompts: Sequence[str]) -> None:
    """Print correlation and size ratio of the two engines' shifts, and of a file one layer off, prompt by prompt."""
    off = {layer + 1: direction for layer, direction in vectors.items()}
    print("correlation  size ratio  correlation one layer off")
    for prompt in prompts:
        tokens = list(model.tokenizer.encode(prompt))
        theirs, wrong = llama.shift(tokens, vectors), llama.shift(tokens, off)
        ours = our_shift(model, tokens, vectors)
        right, beside = np.corrcoef(theirs, ours)[0, 1], np.corrcoef(wrong, ours)[0, 1]
        print(f"{right:.4f}  {np.linalg.norm(theirs) / np.linalg.norm(ours):.4f}  {beside:.4f}  {prompt!r}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare the engines on the files and prompts that are named; with `--tiny` this project's half alone."""
    parser = options(__doc__)
    parser.add_argument("model_file", nargs="?", type=Path, metavar="MODEL.gguf")
    parser.add_argument("vector_file", nargs="?", type=Path, metavar="VECTOR.gguf")
    parser.add_argument("prompts", nargs="*", metavar="PROMPT")
    given = parser.parse_args(arguments)
    if given.tiny:
        with tempfile.TemporaryDirectory() as work, open_model(str(save_tiny_model(Path(work) / "tiny"))) as model:
            shift = our_shift(model, [5, 6, 7], directions(some_vectors(Path(work), model)))
            print(f"our shift of {len(shift)} logits: {np.linalg.norm(shift):.3f}")
        left_out("llama.cpp's half", "it needs llama-cpp-python and the GGUF file of a model that people run")
        return
    if not given.prompts:
        parser.error("name a model, a vector and at least one prompt")
    if llama_cpp is None:
        parser.error("llama-cpp-python is not installed")
    with open_model("smollm2-135m") as model:
        compare(model, Llama(given.model_file), directions(given.vector_file), given.prompts)


if __name__ == "__main__":
    main()
