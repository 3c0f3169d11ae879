"""Models of the Hugging Face hub, as `owner/name` or `owner/name@revision`: downloaded once, then found offline.

The hub's own client starts a large file afresh after a break. Here what has arrived stays on disk and is continued, in
this process or the next, and a file takes its place in the hub's cache only when its checksum is right.
"""

import errno
import logging
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import httpx2
from huggingface_hub import HfApi, constants, get_cached_repo_tree, hf_hub_url, snapshot_download
from huggingface_hub.errors import (
    CachedRepoTreeNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import BlobLfsInfo, ModelInfo, RepoSibling
from huggingface_hub.utils import (
    build_hf_headers,
    filter_repo_objects,
    get_session,
    hf_raise_for_status,
    validate_repo_id,
)
from rich.filesize import decimal
from tqdm import tqdm

from steering_core.foundation.cache import cache_locked
from steering_core.foundation.errors import DiskFull, HubUnreachable, ModelGated, ModelNotFound
from steering_core.foundation.keys import content_key, file_sha256
from steering_core.models.folders import refuse_without_weights

NEEDED = (
    "*.json",
    "*.jsonl",
    "*.jinja",
    "*.txt",
    "*.tiktoken",
    "tiktoken.model",
    "tokenizer.model",
    "model*.safetensors",
)
TRIES = 5  # in a row that bring no byte
PAUSE_SECONDS = 1.0
PROGRESS_SECONDS = 5.0
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PASSING = (408, 429, 500, 502, 503, 504)  # HTTP statuses after which asking again may help
_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>\w[\w.+/-]*))?", re.ASCII)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubModel:
    """A repository of the hub at a revision: a branch, a tag or a commit."""

    repository: str
    revision: str = constants.DEFAULT_REVISION

    def __str__(self) -> str:
        plain = self.revision == constants.DEFAULT_REVISION
        return self.repository if plain else f"{self.repository}@{self.revision}"


def hub_model(name: str) -> HubModel | None:
    """The repository and revision that `name` spells, or None where it has another form."""
    spelled = _NAME.fullmatch(name)
    if not spelled or ".." in name or "//" in name or name.endswith(("/", ".lock")):
        return None
    try:
        validate_repo_id(spelled["repository"])
    except HFValidationError:
        return None
    return HubModel(spelled["repository"], spelled["revision"] or constants.DEFAULT_REVISION)


def snapshot(wanted: HubModel) -> Path:
    """The folder of the model's files in the hub's cache, downloaded where it is not there as a whole.

    A whole snapshot is used as it is, without asking the hub. Raises ModelNotFound, ModelGated, HubUnreachable,
    ModelUnsupported for a repository without weights that MLX reads, and DiskFull.
    """
    if found := _whole(wanted):
        return found
    with cache_locked(f"hub-{content_key(constants.HF_HUB_CACHE, wanted.repository)}"), _hub_errors(wanted):
        return _whole(wanted) or _downloaded(wanted)


def _whole(wanted: HubModel) -> Path | None:
    """The snapshot on disk, if the list of its commit's files is known and all that is needed is there."""
    try:
        get_cached_repo_tree(wanted.repository, revision=wanted.revision)
        return _needed(wanted, on_disk=True)
    except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError):
        return None


def _needed(wanted: HubModel, on_disk: bool = False) -> Path:
    """The snapshot with the files that mlx-lm reads, by the hub's own client; `on_disk` asks nobody."""
    found = snapshot_download(
        wanted.repository,
        revision=wanted.revision,
        allow_patterns=list(NEEDED),
        local_files_only=on_disk,
        tqdm_class=_NoBar,
    )
    return Path(found)


def _downloaded(wanted: HubModel) -> Path:
    """The snapshot, after its large files and then the rest have been fetched."""
    try:
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        info = HfApi().model_info(wanted.repository, revision=wanted.revision, files_metadata=True, timeout=timeout)
    except (httpx2.TransportError, OfflineModeIsEnabled) as error:
        try:
            found = _needed(wanted, on_disk=True)  # no list of its files: what is missing shows when it is loaded
        except LocalEntryNotFoundError:
            raise error from None
        log.warning("the hub cannot be reached: %s is used as it is on disk", wanted)
        return found
    files = {file.rfilename: file for file in info.siblings or ()}
    refuse_without_weights(files, f"the repository {wanted}")
    needed = [files[name] for name in filter_repo_objects(files, allow_patterns=list(NEEDED))]
    _fetch_large(wanted, info, needed)
    return _needed(wanted)


def some_files(wanted: HubModel, names: Sequence[str], most: int) -> Path:
    """A snapshot of those files of a repository in the hub's cache; without a network, of those on disk.

    Raises as `snapshot` does, and HubUnreachable for a file of over `most` bytes.
    """
    get = partial(snapshot_download, wanted.repository, revision=wanted.revision, allow_patterns=list(names))
    with _hub_errors(wanted):
        try:
            info = HfApi().model_info(wanted.repository, revision=wanted.revision, files_metadata=True)
        except (httpx2.TransportError, OfflineModeIsEnabled):
            return Path(get(local_files_only=True))
        needed = [file for file in info.siblings or () if file.rfilename in names]
        if large := [file.rfilename for file in needed if (file.size or 0) > most]:
            raise HubUnreachable(f"{large[0]} of {wanted} is larger than {decimal(most)}: it is not what it should be")
        _fetch_large(wanted, info, needed)
        return Path(get(tqdm_class=_NoBar))


class _NoBar(tqdm):  # type: ignore[misc]
    """A progress bar that is not shown: `_Progress` has told of nearly every byte."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options | {"disable": True})


def _fetch_large(wanted: HubModel, info: ModelInfo, needed: Sequence[RepoSibling]) -> None:
    """Have every file that the hub keeps outside git (weights, large tokenizers) in the cache's blobs."""
    blobs = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=wanted.repository, repo_type="model"), "blobs")
    blobs.mkdir(parents=True, exist_ok=True)
    large = {file.lfs.sha256: file for file in needed if file.lfs and _over_http(file.lfs)}
    found = [_Large(file.rfilename, sha256, file.lfs.size, blobs) for sha256, file in large.items() if file.lfs]
    missing = [file for file in found if not file.blob.exists()]
    if not missing:
        return
    progress = _Progress(str(wanted), sum(file.size for file in missing), sum(file.arrived for file in missing))
    room, lacking = shutil.disk_usage(blobs).free, progress.total - progress.done
    if lacking > room:
        raise DiskFull(
            f"{wanted} needs {decimal(lacking)} more, and {blobs} has room for {decimal(room)}: free some space, or "
            "set HF_HOME to a folder on a larger disk"
        )
    log.info("downloading %s, %s, into %s (once)", wanted, decimal(progress.total), constants.HF_HUB_CACHE)
    for file in missing:
        file.fetch(hf_hub_url(wanted.repository, file.name, revision=info.sha), progress)


def _over_http(file: BlobLfsInfo) -> bool:
    """Whether the hub gives the file over plain HTTP, under a name that can be a file's."""
    return file.size <= constants.MAX_HTTP_DOWNLOAD_SIZE and bool(re.fullmatch("[0-9a-f]{64}", file.sha256))


@dataclass
class _Progress:
    """How much of a download has arrived, logged every few seconds and at its end."""

    name: str
    total: int
    done: int
    _begun: float = field(default_factory=time.monotonic)
    _said: float = field(default_factory=time.monotonic)
    _new: int = 0

    def add(self, size: int) -> None:
        """Count bytes that have arrived."""
        self.done, self._new, now = self.done + size, self._new + size, time.monotonic()
        if now - self._said < PROGRESS_SECONDS and self.done < self.total:
            return
        self._said = now
        speed = self._new / max(now - self._begun, 1e-3)
        shown = (self.name, decimal(self.done), decimal(self.total), 100 * self.done // self.total, decimal(int(speed)))
        log.info("%s: %s of %s (%d %%), %s a second", *shown)


@dataclass(frozen=True)
class _Large:
    """A file that the hub knows by its checksum, and its place in the cache, whole or in part."""

    name: str
    sha256: str
    size: int
    blobs: Path

    @property
    def blob(self) -> Path:
        """The whole file in the cache."""
        return self.blobs / self.sha256

    @property
    def _part(self) -> Path:
        return self.blobs / f"{self.sha256}.steerflow.incomplete"

    @property
    def arrived(self) -> int:
        """How many of its bytes are there."""
        return min(self._part.stat().st_size, self.size) if self._part.exists() else 0

    def fetch(self, url: str, progress: _Progress) -> None:
        """Have the whole file in its place; a connection that breaks is made again and goes on where it ended."""
        fruitless = 0
        while (before := self.arrived) < self.size:
            broke = self._continue(url, progress)
            fruitless = 0 if self.arrived > before else fruitless + 1
            if fruitless == TRIES:
                raise broke
            if self.arrived < self.size:
                log.warning("%s: the connection broke (%s), going on", self.name, type(broke).__name__)
                time.sleep(PAUSE_SECONDS)
        found = file_sha256(self._part)
        if found != self.sha256:
            self._part.unlink()
            raise HubUnreachable(
                f"{self.name} arrived with checksum {found}, and the hub says {self.sha256}: it was damaged on its "
                "way, so try again"
            )
        self._part.replace(self.blob)

    def _continue(self, url: str, progress: _Progress) -> Exception:
        """Ask for the missing bytes and append them as they arrive. Returns the passing fault that ended it.

        Raises what asking again would not mend.
        """
        try:
            with self._part.open("ab") as out:
                self._append(url, out, progress)
        except httpx2.TransportError as error:
            return error
        except HfHubHTTPError as error:
            if error.response.status_code not in _PASSING:
                raise
            return error
        return httpx2.RemoteProtocolError(f"{self.name} ended before it was whole")

    def _append(self, url: str, out: IO[bytes], progress: _Progress) -> None:
        onwards = {"Range": f"bytes={have}-"} if (have := out.tell()) else {}
        headers = build_hf_headers() | {"Accept-Encoding": "identity"} | onwards
        with get_session().stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response:
            hf_raise_for_status(response)
            if have and response.status_code != httpx2.codes.PARTIAL_CONTENT:
                progress.add(-have)
                out.truncate(0)
            for chunk in response.iter_raw():
                out.write(chunk)
                progress.add(len(chunk))


@contextmanager
def _hub_errors(wanted: HubModel) -> Iterator[None]:
    """Turn what the hub's client raises into one error with its remedy."""
    page = f"{constants.ENDPOINT}/{wanted.repository}"
    try:
        yield
    except GatedRepoError as error:
        raise ModelGated(
            f"{wanted.repository} is gated: accept its terms at {page}, then sign in with `hf auth login` or set "
            "HF_TOKEN to a token of that account"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFound(
            f"{wanted.repository} has no revision {wanted.revision!r}: name a branch, a tag or a whole commit that "
            f"{page}/commits shows, or leave @{wanted.revision} out"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelNotFound(
            f"the hub has no model {wanted.repository!r} that may be seen: check the spelling; if it is private, sign "
            "in with `hf auth login` or set HF_TOKEN"
        ) from error
    except HfHubHTTPError as error:
        raise _refusal(wanted, error) from error
    except (httpx2.TransportError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise HubUnreachable(
            f"{wanted} is not on this machine as a whole, and the hub at {constants.ENDPOINT} cannot be reached "
            f"({_reason(error)}): connect to a network and try again, which goes on where a download broke off; unset "
            "HF_HUB_OFFLINE if it is set; or name a local mlx-lm folder or an embedded model"
        ) from error
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise DiskFull(
            f"no room for {wanted} in {constants.HF_HUB_CACHE}: free some space and try again, which goes on where the "
            "download broke off, or set HF_HOME to a folder on a larger disk"
        ) from error


def _refusal(wanted: HubModel, error: HfHubHTTPError) -> ModelNotFound:
    """What a refusal of the hub asks people to do, by its status."""
    status = error.response.status_code
    if status == httpx2.codes.UNAUTHORIZED:
        return ModelGated(
            f"the hub does not accept your token for {wanted.repository}: sign in anew with `hf auth login`, or "
            "correct or unset HF_TOKEN"
        )
    if status == httpx2.codes.FORBIDDEN:
        return ModelGated(
            f"your token may not read {wanted.repository}: ask for access at {constants.ENDPOINT}/{wanted.repository}, "
            "or give the token the right to read gated repositories"
        )
    return HubUnreachable(
        f"the hub at {constants.ENDPOINT} answers {status} for {wanted}: try again later, which goes on where the "
        "download broke off"
    )


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0][:200]}" if str(error) else type(error).__name__
