"""What this clone of the repository calls its own, so that no other clone on the machine shares it by accident.

A clone has a folder of state, a server's address with a password, and a name for its workers. Its work pools are named
after the store that its flow runs write to. Address and password lie in a profile of Prefect's own form,
`.state/prefect/profiles.toml`, that only its owner may read. pyproject.toml points there, so that `prefect` in the
repository's root finds both.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
import socket
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from steering_core.store import default_store

PROFILE = "steerflow"
FIRST_PORT = 4200


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a clone's server answers, the password in Prefect's form USER:PASSWORD, and whether the user chose it."""

    api: str
    auth: str
    given: bool = False

    def environment(self) -> dict[str, str]:
        """The variables by which every Prefect process finds this server."""
        return {"PREFECT_API_URL": self.api, "PREFECT_API_AUTH_STRING": self.auth}

    def login(self) -> tuple[str, str]:
        """User and password, as httpx takes them."""
        user, _, password = self.auth.partition(":")
        return user, password


def state_folder() -> Path:
    """Where process ids, logs, Prefect's database and the profile lie: STEERFLOW_STATE, or `.state`."""
    return Path(os.environ.get("STEERFLOW_STATE", ".state")).resolve()


def keep_private() -> None:
    """Have the folder of Prefect's database be its owner's alone: it holds what every flow run was asked and logged."""
    folder = state_folder() / "prefect"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    for name in ("prefect.db", "prefect.db-wal", "prefect.db-shm"):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).chmod(0o600)


def profiles_file() -> Path:
    """The file of Prefect profiles that holds this clone's address and password."""
    return state_folder() / "prefect" / "profiles.toml"


def store_address() -> str:
    """The store that flow runs of this clone write to: a URL, or an absolute path."""
    store = str(default_store())
    return store.rstrip("/") if "://" in store else str(Path(store).resolve())


def pool_name(kind: str) -> str:
    """The work pool of a kind. It belongs to one store, so that no flow run lands in another clone's."""
    return f"{kind}-{_short(store_address())}"


def worker_name() -> str:
    """The name of this clone's workers: the machine's, and the clone's own digits. STEERFLOW_WORKER gives another."""
    return os.environ.get("STEERFLOW_WORKER") or f"{socket.gethostname()}-{_short(str(state_folder()))}"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def remembered_api() -> str | None:
    """Where this clone's server answered last; None before the first time."""
    return _kept().get("PREFECT_API_URL")


def _kept() -> dict[str, str]:
    kept: dict[str, str] = _read_profiles().get("profiles", {}).get(PROFILE, {})
    return kept


def read_address() -> Address:
    """The server's address and password: what the environment gives, else what the profile holds, else new ones."""
    kept, given = _kept(), os.environ.get("PREFECT_API_URL")
    api = given or kept.get("PREFECT_API_URL") or f"http://127.0.0.1:{FIRST_PORT}/api"
    auth = os.environ.get("PREFECT_API_AUTH_STRING") or kept.get("PREFECT_API_AUTH_STRING")
    return Address(api, auth or f"{PROFILE}:{secrets.token_urlsafe(24)}", given is not None)


def keep_address(address: Address) -> None:
    """Write address and password into the profile, at once and readable by its owner only; other profiles stay."""
    content = _read_profiles()
    profiles = content.setdefault("profiles", {})
    kept = {"PREFECT_API_URL": address.api, "PREFECT_API_AUTH_STRING": address.auth}
    changed = profiles.get(PROFILE, {}) | kept
    if profiles.get(PROFILE) == changed and "active" in content:
        return
    profiles[PROFILE] = changed
    _write_privately(profiles_file(), _toml({"active": PROFILE} | content))


@contextlib.contextmanager
def speaking_to(address: Address) -> Iterator[None]:
    """Prefect's clients of this process speak to the server at `address`."""
    with temporary_settings({PREFECT_API_URL: address.api, PREFECT_API_AUTH_STRING: address.auth}):
        yield


def _read_profiles() -> dict[str, Any]:
    try:
        return tomllib.loads(profiles_file().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def _toml(content: dict[str, Any]) -> str:
    lines = [f"active = {json.dumps(content['active'])}"]
    for name, settings in content["profiles"].items():
        lines += ["", f"[profiles.{json.dumps(name)}]"]
        lines += [f"{key} = {json.dumps(str(value), ensure_ascii=False)}" for key, value in settings.items()]
    return "\n".join(lines) + "\n"


def _write_privately(file: Path, text: str) -> None:
    """Replace `file` by one with this text in a single step, mode 0600."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, written = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        Path(written).replace(file)
    except BaseException:
        Path(written).unlink(missing_ok=True)
        raise
