"""Models with Python of their own: it is never run, unless somebody names the folder on the command line or in a spec.

mlx-lm runs the `model_file` that a config.json names, and transformers the class that a tokenizer's `auto_map` names.
"""

from pathlib import Path

from steering_core.foundation.errors import ModelNotFound, ModelRunsCode
from steering_core.models.folders import read_object

_allowed: set[Path] = set()


def allow_code(folder: str) -> None:
    """Let the model in this local folder run its own Python, in this process.

    For the command line alone (`--allow-code`, and specs that `steer` is given): no request to the explorer and no
    parameter of a flow may lead here. Raises ModelNotFound where there is no such folder.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise ModelNotFound(
            f"there is no folder {folder!r} whose code could be allowed: code is allowed by local folder, so "
            "download one of the hub first, `hf download OWNER/NAME --local-dir FOLDER`, and read what it would run"
        )
    _allowed.add(path.resolve())


def code_allowed(folder: Path) -> bool:
    """Whether the model in `folder` may run its own Python."""
    return folder.resolve() in _allowed


def model_code(folder: Path) -> Path | None:
    """The file that mlx-lm would run to build the network of `folder`; None where it runs none."""
    named = read_object(folder / "config.json").get("model_file")
    return None if named is None else folder / str(named)


def tokenizer_code(folder: Path) -> Path | None:
    """The file that transformers runs for the tokenizer of `folder` if it has no class for it; None for no file."""
    file = folder / "tokenizer_config.json"
    entries = read_object(file).get("auto_map") if file.exists() else None
    named = entries.get("AutoTokenizer") if isinstance(entries, dict) else entries
    first = next((n for n in reversed(named) if n), None) if isinstance(named, list) else named
    return None if first is None else folder / f"{str(first).rpartition('.')[0]}.py"


def refuse_model_code(folder: Path) -> None:
    """Raise ModelRunsCode where the network of `folder` is built by a file of its own that nobody allowed to run."""
    code = model_code(folder)
    if code and not code_allowed(folder):
        raise runs_code(folder, code, "config.json (model_file)")


def runs_code(folder: Path, code: Path, named_in: str) -> ModelRunsCode:
    """The error for a folder that loads only by running `code`, which its file `named_in` names."""
    return ModelRunsCode(
        f"{folder} loads only by running {code}, as its {named_in} says: steerflow does not run a model's own code. "
        "Take a model of an architecture that mlx-lm has; or read the file and, if you trust it, allow it for this "
        f"folder: `steer --allow-code {folder} VERB …`, or `allow_code: [{folder}]` in a spec for `steer run`"
    )
