"""What goes wrong while mlx-lm and transformers load a folder, as one error with its remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from steering_core.foundation.errors import ModelUnsupported, SteerflowError
from steering_core.foundation.validation import shortened
from steering_core.models.code import code_allowed, runs_code, tokenizer_code


@contextmanager
def loading_network(folder: Path) -> Iterator[None]:
    """Raise ModelUnsupported for whatever an architecture does with a configuration or weights that do not fit it."""
    try:
        yield
    except (SteerflowError, MemoryError):
        raise
    except Exception as error:  # each of mlx-lm's architectures raises what it likes
        raise ModelUnsupported(
            f"mlx-lm cannot build the network in {folder} ({_said(error)}): its config.json and weights do not fit "
            "each other; download the folder again, or convert the model anew with `mlx_lm.convert`"
        ) from error


@contextmanager
def loading_tokenizer(folder: Path) -> Iterator[None]:
    """Raise ModelRunsCode for a tokenizer that needs its own Python, ModelUnsupported for one that cannot be read."""
    try:
        yield
    except (SteerflowError, MemoryError):
        raise
    except Exception as error:  # transformers' classes raise what they like
        code = tokenizer_code(folder)
        if code and not code_allowed(folder):
            raise runs_code(folder, code, "tokenizer_config.json (auto_map)") from error
        raise ModelUnsupported(
            f"the tokenizer in {folder} cannot be loaded ({_said(error)}): its files (tokenizer.json, "
            "tokenizer_config.json, tokenizer.model) are missing or damaged; copy or download them again"
        ) from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {shortened(' '.join(str(error).split()), 300)}"
