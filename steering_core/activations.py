"""Activations: the residual stream after every wanted block, at a position of each prompt, extracted once."""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from steering_core.backend import mx
from steering_core.engine import Work
from steering_core.models import Model
from steering_core.progress import Progress, silent
from steering_core.prompts import Prompt
from steering_core.store import Store
from steering_core.taps import Edit

SITE = "resid_post"
TOKEN_BUDGET = 1024  # tokens in one forward pass
SHARD_BYTES = 64 << 20  # activations that are written as one file


@dataclass
class Extraction:
    """What one extraction did, in prompts."""

    computed: int = 0
    reused: int = 0
    seconds: float = 0.0
    work: Work = field(default_factory=Work)


@dataclass(frozen=True)
class Captured:
    """One layer's activations of a batch: values (B, D) at the wanted position and mean residual norms (B,)."""

    activation: mx.array
    residual_norm: mx.array


def position_weights(prompts: Sequence[Prompt], position: str, special: frozenset[int], length: int) -> np.ndarray:
    """Weight of every token in its prompt's activation, (B, T) with rows that sum to 1.

    `last` is the last token. `mean` leaves out token 0, where many models keep an attention sink of enormous norm, and
    special tokens. `response` is the mean over the answer's tokens, and the same as `mean` where there is no answer.
    A prompt that keeps no token at all is read at its last one.
    """
    weights = np.zeros((len(prompts), length), np.float32)
    for row, prompt in enumerate(prompts):
        n = len(prompt.tokens)
        start = prompt.response_start if position == "response" and prompt.response_start < n else 1
        read = [i for i in range(start, n) if prompt.tokens[i] not in special]
        if position == "last" or not read:
            read = [n - 1]
        weights[row, read] = 1 / len(read)
    return weights


def extract(
    model: Model,
    store: Store,
    prompts: Iterable[Prompt],
    layers: Sequence[int],
    position: str,
    progress: Progress = silent,
) -> Extraction:
    """Have the store hold `prompts` x `layers`; only what is missing is run. Two processes never extract the same."""
    started = time.perf_counter()
    wanted = {prompt.prompt_id: prompt for prompt in prompts}
    done = Extraction()
    with store.lock(f"activations-{model.identity.model_id}"):
        missing = _missing(model, store, list(wanted), layers, position)
        done.reused = len(wanted) - len(missing)
        todo = [wanted[i] for i in missing]
        needed = sorted({layer for absent in missing.values() for layer in absent})
        for shard in _shards(todo, len(needed) * model.identity.width * 4):
            rows = _run(model, shard, needed, position, done.work)
            _append(model, store, shard, needed, position, rows, missing)
            done.computed += len(shard)
            progress(done.computed, len(todo))
    done.seconds = time.perf_counter() - started
    return done


def _missing(
    model: Model, store: Store, prompt_ids: Sequence[str], layers: Sequence[int], position: str
) -> dict[str, set[int]]:
    """Layers that the store lacks, by prompt; prompts that lack none are left out."""
    wanted = pa.table({"prompt_id": pa.array(prompt_ids, pa.string())})
    found = store.query(
        "SELECT prompt_id, list(layer) AS layers FROM wanted JOIN raw.activations USING (prompt_id) "
        "WHERE model_id = ? AND site = ? AND position = ? GROUP BY prompt_id",
        [model.identity.model_id, SITE, position],
        wanted=wanted,
    )
    there = dict(zip(found["prompt_id"].to_pylist(), found["layers"].to_pylist(), strict=True))
    absent = {i: set(layers) - set(there.get(i, ())) for i in prompt_ids}
    return {i: layers for i, layers in absent.items() if layers}


def _shards(prompts: Sequence[Prompt], bytes_each: int) -> Iterator[list[Prompt]]:
    """Prompts in order of length, in runs that make one file each."""
    ordered = sorted(prompts, key=lambda prompt: len(prompt.tokens))
    size = max(1, SHARD_BYTES // max(1, bytes_each))
    for begin in range(0, len(ordered), size):
        yield ordered[begin : begin + size]


def _run(
    model: Model, prompts: Sequence[Prompt], layers: Sequence[int], position: str, work: Work
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Activations (N, D) and residual norms (N,) of each layer, in the order of `prompts`."""
    parts: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {layer: [] for layer in layers}
    for batch in _batches(prompts):
        captured = capture(model, batch, layers, position, work)
        for layer in layers:
            activation, norm = captured[layer]
            parts[layer].append((activation, norm))
    return {
        layer: (np.concatenate([a for a, _ in pieces]), np.concatenate([n for _, n in pieces]))
        for layer, pieces in parts.items()
    }


def _batches(prompts: Sequence[Prompt]) -> Iterator[list[Prompt]]:
    """Runs of prompts whose padded tokens stay within the budget; a longer prompt is a batch of its own."""
    batch: list[Prompt] = []
    for prompt in prompts:
        longest = max([len(prompt.tokens), *(len(p.tokens) for p in batch)])
        if batch and longest * (len(batch) + 1) > TOKEN_BUDGET:
            yield batch
            batch = []
        batch.append(prompt)
    if batch:
        yield batch


def capture(
    model: Model, prompts: Sequence[Prompt], layers: Sequence[int], position: str, work: Work
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """One pass over a batch: each layer's activations (B, D) and mean residual norms (B,), float32.

    Blocks after the last wanted one, and the vocabulary projection, are never computed: nothing asks for their values.
    """
    length = max(len(p.tokens) for p in prompts)
    tokens = np.zeros((len(prompts), length), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt.tokens)] = prompt.tokens
    special = frozenset(model.tokenizer.all_special_ids)
    weights = mx.array(position_weights(prompts, position, special, length))  # (B, T)
    norm_weights = mx.array(position_weights([_whole(p) for p in prompts], "mean", frozenset(), length))
    captured: dict[int, Captured] = {}

    def look(layer: int) -> Edit:
        def edit(h: mx.array) -> mx.array:
            stream = h.astype(mx.float32)  # (B, T, D)
            norms = mx.linalg.norm(stream, axis=-1)  # (B, T)
            activation = (weights[:, None, :] @ stream)[:, 0]  # (B, D)
            captured[layer] = Captured(activation, (norms * norm_weights).sum(axis=-1))
            return h

        return edit

    with model.taps.applied({layer: look(layer) for layer in layers}):
        model.network(mx.array(tokens))
    mx.eval([(c.activation, c.residual_norm) for c in captured.values()])
    work.add(*tokens.shape)
    return {layer: (np.array(c.activation), np.array(c.residual_norm)) for layer, c in captured.items()}


def _whole(prompt: Prompt) -> Prompt:
    return Prompt(prompt.tokens, prompt.text, len(prompt.tokens), prompt.tokenizer_id)


def _append(
    model: Model,
    store: Store,
    prompts: Sequence[Prompt],
    layers: Sequence[int],
    position: str,
    rows: dict[int, tuple[np.ndarray, np.ndarray]],
    missing: dict[str, set[int]],
) -> None:
    """Write one shard, layer after layer; only rows that the store lacks."""
    columns: dict[str, list[pa.Array]] = {"prompt_id": [], "layer": [], "residual_norm": [], "activation": []}
    for layer in layers:
        keep = [i for i, prompt in enumerate(prompts) if layer in missing[prompt.prompt_id]]
        values, norms = rows[layer]
        columns["prompt_id"].append(pa.array([prompts[i].prompt_id for i in keep], pa.string()))
        columns["layer"].append(pa.array([layer] * len(keep), pa.int32()))
        columns["residual_norm"].append(pa.array(norms[keep], pa.float32()))
        flat = pa.array(np.ascontiguousarray(values[keep]).reshape(-1), pa.float32())
        columns["activation"].append(pa.FixedSizeListArray.from_arrays(flat, values.shape[1]))
    total = sum(len(part) for part in columns["layer"])
    table = pa.table(
        {
            "model_id": pa.array([model.identity.model_id] * total, pa.string()),
            "prompt_id": pa.chunked_array(columns["prompt_id"]),
            "site": pa.array([SITE] * total, pa.string()),
            "position": pa.array([position] * total, pa.string()),
            "layer": pa.chunked_array(columns["layer"]),
            "residual_norm": pa.chunked_array(columns["residual_norm"]),
            "activation": pa.chunked_array(columns["activation"]),
        }
    )
    store.append_activations(model.identity.model_id, table, row_group_size=max(1, total // len(layers)))
