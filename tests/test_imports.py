"""Imports do nothing: no MLX, no Prefect, no server, no changed limits."""

import resource
import subprocess
import sys

import pytest


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.split(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    "statement", ["import steering_core", "import steering_core.cli", "import steering_core.foundation.errors"]
)
def test_the_core_and_the_command_line_load_neither_mlx_nor_prefect(statement: str) -> None:
    assert not {"mlx", "mlx_lm", "prefect", "transformers"} & loaded_by(statement)


def test_the_pipeline_never_loads_prefect() -> None:
    assert "prefect" not in loaded_by("import steering_core.pipeline.discover")


def test_reading_the_store_needs_no_mlx() -> None:
    assert not {"mlx", "mlx_lm"} & loaded_by("import steering_core.store")


def test_loading_mlx_lm_keeps_the_open_file_limit() -> None:
    code = (
        "import resource\nbefore = resource.getrlimit(resource.RLIMIT_NOFILE)\nimport steering_core.models.mlx_lm\n"
        "assert resource.getrlimit(resource.RLIMIT_NOFILE) == before, before"
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    subprocess.run([sys.executable, "-c", code], check=True)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)
