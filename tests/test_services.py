"""The units in docs/services: systemd finds no fault, launchd's are property lists, and what they start exists."""

import os
import plistlib
import pwd
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.service.processes import POOLS
from tests.machine import ROOT

UNITS = sorted((ROOT / "docs" / "services").glob("*.service"))
AGENTS = sorted((ROOT / "docs" / "services").glob("*.plist"))
WORKER = ["-m", "flows.service", "worker"]
SERVER = ["-m", "flows.service", "serve"]


def installed(unit: Path, folder: Path) -> Path:
    """The unit as somebody would install it: with the paths and the user of this machine."""
    text = unit.read_text().replace("/opt/steerflow/.venv/bin/python", sys.executable)
    text = text.replace("/opt/steerflow", str(folder)).replace("User=steerflow", f"User={_me()}")
    (folder / unit.name).write_text(text)
    return folder / unit.name


def _me() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def complaints(*units: Path) -> str:
    command = ["systemd-analyze", "verify", "--man=no", *map(str, units)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit {done.returncode}")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (Debian package systemd)")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    units = [installed(unit, tmp_path) for unit in UNITS]
    assert len(units) == 2
    assert complaints(*units) == ""
    units[0].write_text(units[0].read_text().replace("Restart=always", "Restart=always\nRestartSecs=5"))
    assert "Unknown key 'RestartSecs'" in complaints(*units)  # so silence means something


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_a_units_command_is_one_that_exists(unit: Path) -> None:
    lines = unit.read_text().splitlines()
    (start,) = (line.removeprefix("ExecStart=") for line in lines if line.startswith("ExecStart="))
    settings = [line.removeprefix("Environment=") for line in lines if line.startswith("Environment=")]
    _check(shlex.split(start), dict(word.split("=", 1) for line in settings for word in shlex.split(line)))


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.stem)
def test_an_agent_is_a_property_list_whose_command_exists(agent: Path) -> None:
    found: dict[str, Any] = plistlib.loads(agent.read_bytes())
    assert found["Label"] == agent.stem
    assert found["KeepAlive"] is True
    for key in ("WorkingDirectory", "StandardOutPath", "StandardErrorPath"):
        assert found[key].startswith("/Users/me/steerflow")
    _check(found["ProgramArguments"], found["EnvironmentVariables"])


def _check(command: list[str], environment: dict[str, str]) -> None:
    python, *arguments = command
    assert python.endswith("/.venv/bin/python")
    assert environment["PREFECT_API_URL"] == "http://127.0.0.1:4200/api"
    assert environment["PREFECT_PLUGINS_ENABLED"] == "false"
    if arguments[: len(WORKER)] == WORKER:
        assert arguments[len(WORKER)] in POOLS
        assert environment["PREFECT_CLIENT_MAX_RETRIES"] == "8"
        assert environment["STEERFLOW_STORE"].startswith("/")
    else:
        assert arguments == SERVER
        assert environment["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
