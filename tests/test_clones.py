"""Two clones on one machine, in folders whose names hold spaces, an apostrophe and umlauts, leave each other alone.

The test that runs both takes minutes: `pytest -m slow tests/test_clones.py`.
"""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from flows.service.clone import Address
from flows.service.deployments import client_of, online
from steering_core.concepts import Concept
from steering_core.store import Store
from tests.machine import ROOT, address_of, clean_environment
from tests.quick import spec_file

NAMES = ("a folder", "Jörg's zweite Übung")
COPIED = ("Makefile", "pyproject.toml", "constraints.txt", "prefect.yaml")
LINKED = ("flows", "steering_core", "data/specs", "data/concepts", "data/capabilities", "data/neutral.yaml")


def make(clone: Path, *words: str) -> str:
    """What `make` prints in a clone; it must succeed."""
    command = ["make", *words]
    done = subprocess.run(command, cwd=clone, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def new_clone(folder: Path) -> Path:
    """A clone of this repository with an environment that is ready."""
    (folder / "data").mkdir(parents=True)
    for name in COPIED:
        shutil.copy(ROOT / name, folder / name)
    for name in LINKED:
        (folder / name).symlink_to(ROOT / name)
    (folder / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if not path.name.startswith("ready"):
            (folder / ".venv" / path.name).symlink_to(path)
    (folder / ".venv" / "ready").touch()
    (folder / ".venv" / "ready-dev").touch()
    return folder


@pytest.mark.parametrize("name", [*NAMES, "100% $HOME #1 & more"])
def test_make_keeps_to_the_clone(tmp_path: Path, name: str) -> None:
    """Targets that make folders make them here, and a command that names a path names it whole."""
    clone = new_clone(tmp_path / name)
    make(clone, ".state/prefect")
    assert (clone / ".state" / "prefect").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    told = make(clone, "--dry-run", "discover", "up", "down", "password")
    assert ".venv/bin/python -m flows quickstart" in told
    assert str(tmp_path) not in told  # every path is relative, so that no shell has to read the clone's
    (clone / "Makefile").open("a").write("\nhome:\n\t@printenv PREFECT_HOME\n")
    assert make(clone, "home").strip() == str(clone / ".state" / "prefect")


def test_make_up_takes_on_or_off_for_the_night(tmp_path: Path) -> None:
    command, clone = ["make", "up", "NIGHTLY=of"], new_clone(tmp_path / "x")
    done = subprocess.run(command, cwd=clone, env=clean_environment(), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "NIGHTLY is 'of': say NIGHTLY=on, or NIGHTLY=off" in done.stderr


@pytest.mark.slow
@pytest.mark.server
def test_two_clones_run_beside_each_other(tmp_path: Path, tiny_folder: Path, concept: Concept) -> None:
    spec = spec_file(tmp_path, tiny_folder, concept)
    here = tmp_path / "clones"
    one, two = (new_clone(here / name) for name in NAMES)
    try:
        with ThreadPoolExecutor(2) as both:  # at once, so that they want the same port
            said = list(both.map(lambda clone: make(clone, "up", "NIGHTLY=off"), (one, two)))
        assert all("nightly-sweep" not in text for text in said)
        first, second = address(one), address(two)
        assert first.api != second.api
        assert first.auth != second.auth
        assert [len(workers(address)) for address in (first, second)] == [2, 2]
        assert not set(workers(first)) & set(workers(second))
        run(one, spec)
        make(one, "down")
        assert Store(one / "data" / "store").rows("SELECT concept FROM recommendations") == [{"concept": "loud"}]
        assert not (two / "data" / "store").exists()
        run(two, spec)
        assert Store(two / "data" / "store").rows("SELECT concept FROM recommendations") == [{"concept": "loud"}]
    finally:
        downs = [make(clone, "down") for clone in (one, two)]
    assert "server" in downs[1]
    assert sorted(path.name for path in here.iterdir()) == sorted(NAMES)


def address(clone: Path) -> Address:
    return address_of({"PREFECT_PROFILES_PATH": str(clone / ".state" / "prefect" / "profiles.toml")})


def workers(address: Address) -> list[str]:
    """Pool and name of every worker that is online."""
    with client_of(address) as asked:
        pools = asked.post("/work_pools/filter", json={}).json()
        return [f"{pool['name']} {name}" for pool in pools for name in online(asked, pool["name"])]


def run(clone: Path, spec: Path) -> None:
    """Run a spec as the README does, in the clone's root and with nothing exported, until it has completed."""
    prefect = str(clone / ".venv" / "bin" / "prefect")
    command = [prefect, "deployment", "run", "discover-vectors", "--param", f"spec={spec}"]
    done = subprocess.run(
        [*command, "--watch"], cwd=clone, env=clean_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
