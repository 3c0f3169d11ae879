"""Does an exported control vector do in llama.cpp what the vector does here? Opt-in: needs llama-cpp-python.

    pip install llama-cpp-python        # builds llama.cpp, some 15 minutes on two cores
    python benchmarks/llama_control_vector.py MODEL.gguf VECTOR.gguf PROMPT...

Both engines steer the prompt's every position with the same file; printed is, for each prompt, the correlation of the
two shifts of the next token's logits (steered minus unsteered) over the whole vocabulary, and the ratio of their sizes.
llama.cpp computes with the GGUF's quantised weights, this project with their float32 values, so 1 is not to be had.
"""

import ctypes
import sys
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

from steering_core.backend import mx
from steering_core.interventions.change import Change, Intervention, Where
from steering_core.interventions.steering import Steering
from steering_core.models import Model, open_model


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


def main(model_file: Path, vector_file: Path, prompts: list[str]) -> None:
    """Print correlation and size ratio of the two engines' shifts, and of a file one layer off, prompt by prompt."""
    llama, vectors = Llama(model_file), directions(vector_file)
    off = {layer + 1: direction for layer, direction in vectors.items()}
    print("correlation  size ratio  correlation one layer off")
    with open_model("smollm2-135m") as model:
        for prompt in prompts:
            tokens = list(model.tokenizer.encode(prompt))
            theirs, ours, wrong = (
                llama.shift(tokens, vectors),
                our_shift(model, tokens, vectors),
                llama.shift(tokens, off),
            )
            ratio = np.linalg.norm(theirs) / np.linalg.norm(ours)
            print(
                f"{np.corrcoef(theirs, ours)[0, 1]:.4f}  {ratio:.4f}  {np.corrcoef(wrong, ours)[0, 1]:.4f}  {prompt!r}"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
