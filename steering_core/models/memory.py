"""Memory: what a model's passes may take, and what they take. Every batch size of this package follows from it.

`limit` says how many bytes this process may hold, `Footprint` what a pass of a network holds for each of its tokens,
`Budget` how many rows and tokens fit therefore. Batch sizes change no result, only how fast it comes.
"""

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mlx.utils import tree_map

from steering_core.backend.mlx import mx, nn, on_cpu
from steering_core.foundation.errors import ModelTooLarge
from steering_core.foundation.sizes import parse_size, shown_size
from steering_core.models.taps import Taps

VARIABLE = "STEERFLOW_MEMORY"
PassKind = Literal["capture", "read", "score", "sample"]
_SHARE_OF_RAM, _SHARE_OF_GPU = 0.75, 0.9  # what is not claimed serves the system and other programs
_ENOUGH = 3 << 30  # beyond the weights: with more, passes over prompts get no faster (docs/benchmarks.md)
_QUANTUM = 512 << 20  # of temporaries, at most, after which a GPU's queue is waited for
_LEAST_TOKENS = 16  # in one pass of one row, however little memory there is
_SLACK = 256  # tokens by which a key-value cache grows
_UNPACKED_FROM = 32  # tokens: for fewer, a GPU multiplies by quantised weights as they are


@dataclass(frozen=True)
class Habits:
    """How large passes are where memory does not bound them: larger ones are no faster on this kind of device.

    `extraction`, `reading`, `scoring` and `training` count the tokens of one pass; `cached` is rows x length of an
    extraction's caches; `overhead` is what a pass costs before its first token, in tokens; `rows` are sampled together.
    """

    extraction: int
    cached: int
    overhead: int
    reading: int
    scoring: int
    training: int
    rows: int = 64
    trunk: int = 256  # sequences that share one trunk


CPU = Habits(extraction=1536, cached=8192, overhead=40, reading=8192, scoring=640, training=256)
GPU = Habits(extraction=4096, cached=131072, overhead=1024, reading=4096, scoring=4096, training=4096)


def limit(wanted: int | None = None) -> int:
    """Bytes that this process may hold: the smaller of `wanted` and STEERFLOW_MEMORY, or what the device recommends."""
    named = os.environ.get(VARIABLE)
    given = [size for size in (wanted, parse_size(named, VARIABLE) if named else None) if size is not None]
    return min(given) if given else recommended()


def recommended() -> int:
    """Bytes that the device recommends to hold: Metal says so itself; else a share of the GPU's memory, or of RAM."""
    if on_cpu():
        return int(_SHARE_OF_RAM * _physical())
    found = mx.device_info()
    if "max_recommended_working_set_size" in found:
        return int(found["max_recommended_working_set_size"])
    if "total_memory" not in found:
        return int(_SHARE_OF_RAM * _physical())
    own = mx.get_active_memory() + mx.get_cache_memory()
    return min(int(_SHARE_OF_GPU * int(found["total_memory"])), int(found["free_memory"]) + own)


def _physical() -> int:
    """Bytes of this machine's memory; of the control group's, where that is less."""
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        bound = Path(name)
        if bound.exists() and (text := bound.read_text().strip()).isdigit():
            whole = min(whole, int(text))
    return whole


# -- what a network holds -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Footprint:
    """Bytes that a network's passes hold, read off its modules and the caches that it makes.

    `weights` are held all the time, and `fixed` by any pass: quantised weights that a GPU unpacks. A pass holds `token`
    for each of its tokens and `score` for each pair of a token and a position that it sees; `stream` is one block's
    residual stream of a token. A cache holds `cached` a token and `state` a row, and `logits` are those of one place.
    """

    weights: int
    fixed: int
    token: int
    score: int
    stream: int
    cached: int
    state: int
    logits: int


def weights_bytes(network: nn.Module) -> int:
    """Bytes of a network's parameters, which need not be loaded yet."""
    return sum(leaf.nbytes for leaf in arrays_in(network.parameters()))


def footprint(network: nn.Module, taps: Taps, cache: list[Any]) -> Footprint:
    """The footprint of a tapped network, with an empty cache of its own; one token passes through, and is not computed.

    What a pass has under way is measured (docs/benchmarks.md): a CPU allocates some operations ahead; a GPU frees a
    block's temporaries when its queue has come by, and two blocks are in it (`steering_core.engine.pace`).
    """
    widths: list[int] = []
    with taps.followed(lambda _, h: widths.append(h.shape[-1])):
        logits = network(mx.array([[0]]), cache=cache)  # (1, 1, V), lazily
    experts = int(_argument(network, ("num_experts_per_tok", "top_k", "moe_top_k"), 1))
    outputs = max(_outputs(block, experts) for block in network.layers)
    unpacked = max(sum(_elements(module) for module in _wide(block) if "scales" in module) for block in network.layers)
    cached, state = _cache_bytes(cache)
    size, width = logits.dtype.size, max(widths)
    blocks, copies = (1.4, 4) if on_cpu() else (2.0, 0 if _fused(network) else 12)
    return Footprint(
        weights=weights_bytes(network),
        fixed=0 if on_cpu() else 2 * size * unpacked,
        token=int(blocks * size * (2 * outputs + width)),
        score=int(copies * size * _argument(network, ("num_attention_heads", "n_heads", "n_head"), 32)),
        stream=size * width,
        cached=cached,
        state=state,
        logits=logits.shape[-1] * (2 * size if on_cpu() else size + 4),
    )


def _outputs(block: nn.Module, experts: int) -> int:
    """How many numbers a block's matrix products make of one token, `experts` of its experts being asked."""
    weights = [module["weight"] for module in block.modules() if "weight" in module]
    return sum((experts if w.ndim == 3 else 1) * w.shape[-2] for w in weights if w.ndim > 1)


def _cache_bytes(cache: list[Any]) -> tuple[int, int]:
    """Bytes that a cache holds for each token, and for each row whatever its length."""
    a_token = a_row = 0
    for leaf in arrays_in([entry.state for entry in cache]):
        if leaf.ndim:
            if leaf.ndim == 4 and leaf.shape[2] == _SLACK:  # keys or values (1, H, 256, D)
                a_token += leaf.nbytes // _SLACK
            else:
                a_row += leaf.nbytes
    return a_token, a_row


def arrays_in(tree: Any) -> list[mx.array]:
    """The arrays in nested lists, tuples and dicts."""
    leaves: list[Any] = []
    tree_map(leaves.append, tree)
    return [leaf for leaf in leaves if isinstance(leaf, mx.array)]


def _argument(network: nn.Module, names: Sequence[str], default: int) -> int:
    """The first of `names` that the network's arguments have as a number."""
    known = vars(network.args) if hasattr(network, "args") else {}
    inner = known.get("text_config")
    for arguments in (known, inner if isinstance(inner, dict) else {}):
        for name in names:
            if isinstance(found := arguments.get(name), int):
                return found
    return default


def _fused(network: nn.Module) -> bool:
    """Whether the architecture has attention computed in one kernel, which holds no scores."""
    return hasattr(sys.modules[type(network).__module__], "scaled_dot_product_attention")


# -- what fits ------------------------------------------------------------------------------------------------------


def cache_step(depth: int) -> int:
    """How many tokens a cache grows by at a time, for rows that end at `depth`: `depth` itself, at most 256."""
    return max(1, min(depth, _SLACK))


@dataclass
class Budget:
    """How many rows and tokens a model's passes hold, so that this process stays within `limit` bytes.

    The first pass of each kind of work is measured, and corrects what is foreseen for later ones.
    """

    limit: int
    footprint: Footprint
    habits: Habits = field(default_factory=lambda: CPU if on_cpu() else GPU)
    _factors: dict[PassKind, float] = field(default_factory=dict)

    def room(self, work: PassKind, most: int = _ENOUGH) -> int:
        """Bytes, as `peak` counts them, that one pass of this kind of work may take beside what is held now."""
        least = self.peak(1, _LEAST_TOKENS)
        left = min(self.limit - mx.get_active_memory(), most + self.footprint.fixed)
        return max(least, int(left / self._factors.get(work, 1.0)))

    def peak(self, rows: int, length: int, depth: int = 0, streams: int = 0, logits: int = 0) -> int:
        """Bytes that a pass takes over `rows` x `length` tokens whose caches end at `depth` (0: without a cache).

        `streams` blocks' outputs are held for every token, and the logits of `logits` places of each row.
        """
        f, tokens = self.footprint, rows * length
        held = f.token + f.score * max(depth, length) + f.stream * streams
        return (
            f.fixed + tokens * held + rows * ((f.state + f.cached * depth) if depth else 0) + rows * logits * f.logits
        )

    def rows(self, work: PassKind, length: int, depth: int = 0, streams: int = 0, logits: int = 0) -> int:
        """How many rows of such a pass fit into the room; at least one."""
        nothing = self.footprint.fixed
        each = self.peak(1, length, depth, streams, logits) - nothing
        return max(1, int((self.room(work) - nothing) // each))

    def stretch(self, rows: int, depth: int) -> int:
        """How many tokens of each of `rows` rows one pass reads into their caches, which end at `depth`."""
        each = self.peak(rows, 1, depth) - self.peak(rows, 0, depth)
        fitting = (self.room("read", self.limit) - self.peak(rows, 0, depth)) // each
        enough = (_ENOUGH // each, self.habits.reading // rows)
        return max(1, _LEAST_TOKENS // rows, min(fitting, *enough))

    def sampled(self, depth: int) -> int:
        """How many rows whose texts end at `depth` tokens are sampled together."""
        each = self.sampled_bytes(1, depth) - self.footprint.fixed
        return max(1, min(self.habits.rows, (self.room("sample", self.limit) - self.footprint.fixed) // each))

    def sampled_bytes(self, rows: int, depth: int) -> int:
        """Bytes that sampling `rows` texts takes that end at `depth` tokens."""
        step = cache_step(depth)
        return self.peak(rows, 1, math.ceil(depth / step) * step, logits=2)

    def blocks_at_once(self, tokens: int, depth: int) -> int:
        """After how many blocks a GPU's queue is waited for, in a pass over so many tokens."""
        f = self.footprint
        unpacked = f.fixed if tokens >= _UNPACKED_FROM else 0
        one = (unpacked + tokens * (f.token + f.score * depth)) // 2
        return max(1, min(_QUANTUM, self.room("read") // 4) // max(one, 1))

    @contextlib.contextmanager
    def learning(self, work: PassKind, foreseen: int) -> Iterator[bool]:
        """Measure what the `with` takes, once for each kind of work; gives whether this time is measured.

        Where it takes more than `foreseen` bytes, `room` is smaller by that factor from then on, at most 8 times. A
        pass that takes less than an eighth of the room is not measured: its constant costs would outweigh those that
        grow with a pass.
        """
        if work in self._factors or 8 * foreseen < self.room(work):
            yield False
            return
        before = mx.get_active_memory()
        mx.reset_peak_memory()
        yield True
        self._factors[work] = min(8.0, max(1.0, (mx.get_peak_memory() - before) / foreseen))


# -- what does not fit ----------------------------------------------------------------------------------------------


def check_fits(name: str, network: nn.Module, limit: int) -> None:
    """Raises ModelTooLarge, with what would fit, where a network's weights do not fit into `limit` bytes.

    The weights need not be loaded: only their shapes are looked at.
    """
    needed = weights_bytes(network)
    if needed <= limit:
        return
    how = " as float32, the one precision that is fast on a CPU" if on_cpu() else ""
    raise ModelTooLarge(
        f"{name} needs {shown_size(needed)} for its weights{how}, and {shown_size(limit)} may be used: "
        f"{_would_fit(network, limit)}; or raise {VARIABLE} or the spec's `memory`"
    )


def _would_fit(network: nn.Module, limit: int) -> str:
    """What fits instead: the conversion to the most bits that does, or a smaller model."""
    if on_cpu():
        return f"a model of at most {limit / 4 / 1e9:.2g} billion parameters would fit"
    for bits in (8, 6, 4, 3):
        if (size := quantised_bytes(network, bits)) < min(weights_bytes(network), 0.9 * limit):
            return f"its {bits}-bit conversion would fit, with {shown_size(size)}"
    return f"a model of at most {limit / 0.5625 / 1e9:.2g} billion parameters in 4 bits would fit"


def quantised_bytes(network: nn.Module, bits: int) -> int:
    """Bytes of the weights if all that mlx-lm quantises were quantised, to so many bits in groups of 64."""
    wide = _wide(network)
    there = sum(module[name].nbytes for module in wide for name in ("weight", "scales", "biases") if name in module)
    return weights_bytes(network) - there + sum(map(_elements, wide)) * (2 * bits + 1) // 16


def _wide(network: nn.Module) -> list[Any]:
    """The modules whose weights mlx-lm can quantise, or has quantised."""
    return [m for m in network.modules() if "weight" in m and ("scales" in m or hasattr(m, "to_quantized"))]


def _elements(module: Any) -> int:
    """How many numbers a module's weight stands for."""
    return int(module.weight.size * 32 // module.bits if "scales" in module else module.weight.size)
