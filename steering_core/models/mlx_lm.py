"""The one place that imports mlx-lm, and knows its quirks."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steering_core.backend import mx, nn

if sys.platform != "win32":
    import resource


@contextlib.contextmanager
def _open_file_limit_kept() -> Iterator[None]:
    """mlx-lm lowers the process's open-file limit at import, hard limit included: a server would feel it."""
    if sys.platform == "win32":
        yield
        return
    setrlimit = resource.setrlimit
    resource.setrlimit = lambda *_: None
    try:
        yield
    finally:
        resource.setrlimit = setrlimit


with _open_file_limit_kept():
    import mlx_lm.utils
    from mlx_lm.convert import convert
    from mlx_lm.models.cache import ConcatenateKVCache, make_prompt_cache
    from mlx_lm.tokenizer_utils import TokenizerWrapper


def load_network(folder: Path, full_precision: bool) -> nn.Module:
    """The network of an mlx-lm folder; dequantised to float32 where `full_precision`."""
    network, _ = mlx_lm.utils.load_model(folder, lazy=True)
    if full_precision:
        network = mlx_lm.utils.dequantize_model(network)
        network.set_dtype(mx.float32)
    mx.eval(network.parameters())
    network.eval()
    return network


def load_tokenizer(folder: Path) -> TokenizerWrapper:
    """The tokenizer of an mlx-lm folder, with its chat template."""
    return mlx_lm.utils.load_tokenizer(folder)


def quantise_folder(source: Path, destination: Path, bits: int) -> None:
    """Write a quantised copy of an mlx-lm folder; `destination` must not exist."""
    with contextlib.redirect_stdout(sys.stderr):  # mlx-lm prints its progress
        convert(str(source), str(destination), quantize=True, q_bits=bits, q_group_size=64)


def download(repository: str) -> Path:
    """The local snapshot of a hub repository, downloaded where it is missing."""
    return Path(mlx_lm.utils._download(repository))


def new_cache(network: nn.Module) -> list[Any]:
    """An empty cache for one batch, in the form that the architecture wants."""
    cache: list[Any] = make_prompt_cache(network)
    return cache


__all__ = [
    "ConcatenateKVCache",
    "TokenizerWrapper",
    "download",
    "load_network",
    "load_tokenizer",
    "new_cache",
    "quantise_folder",
]
