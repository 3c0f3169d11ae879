"""Clients of other projects, installed once into the cache, apart from what this project depends on."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from steering_core.foundation.cache import cache_folder

CLIENTS = ("llm==0.36", "langchain-openai==1.7.4")


def clients_folder() -> Path:
    """The folder with the clients. Skips the test, with the reason, where no registry gives them."""
    folder = cache_folder() / "clients" / "-".join(CLIENTS)
    if not folder.exists():
        making = folder.with_name(f"{folder.name}.{os.getpid()}")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(making), *CLIENTS]
        made = subprocess.run(command, capture_output=True, text=True, timeout=600)
        if made.returncode:
            shutil.rmtree(making, ignore_errors=True)
            pytest.skip(f"no registry gives {', '.join(CLIENTS)}: {made.stderr.strip()[-300:]}")
        making.rename(folder)
    return folder


def run_with_clients(arguments: list[str], home: Path, **environment: str) -> str:
    """What a Python process with the clients alone says on its standard output."""
    given = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(clients_folder()), **environment}
    made = subprocess.run(
        [sys.executable, "-S", *arguments], capture_output=True, text=True, timeout=120, env=given, cwd=home
    )
    assert made.returncode == 0, made.stderr
    return made.stdout
