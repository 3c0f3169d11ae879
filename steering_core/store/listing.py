"""Listing: what objects a store has, asked in one request for all of them, and DuckDB's way to read them.

A listing is good for a second, or until a lock is taken that another process of this machine may have held. An object
up to 16 MB is read whole, once; of a greater one, the parts that are asked for.
"""

import datetime
import fnmatch
import io
import random
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic, sleep
from typing import IO, Any, TypeVar

from fsspec import AbstractFileSystem

from steering_core.foundation.errors import StoreError

T = TypeVar("T")
SECONDS = 1.0  # that a listing is good for
SMALL = 16 << 20  # bytes: an object up to that is read whole
KEPT = 256 << 20  # bytes of objects that are kept in memory
PART = 1 << 20  # bytes of a greater object that are read at a time, at least
ATTEMPTS = 6
_EPOCH = datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC)  # of objects, which never change under their name


@dataclass(frozen=True)
class ListedObject:
    """An object as it was listed: its bytes, and what tells it from another of its name."""

    size: int
    version: str


def asked(root: str, question: Callable[[], T]) -> T:
    """What an object store answers, asked again a few times where it fails, within some four seconds.

    Raises FileNotFoundError and FileExistsError as they come, StoreError for all else.
    """
    for attempt in range(ATTEMPTS):
        try:
            return question()
        except FileExistsError:
            raise
        except Exception as error:  # whatever a client of an object store raises: of aiohttp, botocore, the system
            if isinstance(error, FileNotFoundError) and "bucket" not in str(error).lower():
                raise
            if attempt == ATTEMPTS - 1 or not _passes(error):
                raise StoreError(_failure(root, error)) from error
        sleep(0.1 * 2**attempt * random.uniform(0.8, 1.2))
    raise AssertionError("the last attempt returns or raises")


def _passes(error: Exception) -> bool:
    """Whether asking again may help: not where something is missing, forbidden, or no credentials are given."""
    return not isinstance(error, FileNotFoundError | PermissionError | ValueError | TypeError) and not any(
        word in type(error).__name__ for word in ("Credentials", "Profile", "Validation", "NoRegion")
    )


def _failure(root: str, error: Exception) -> str:
    """One sentence for what an object store said, and the way out."""
    said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
    name = type(error).__name__
    if isinstance(error, PermissionError) and re.search(r"access ?denied", said, re.IGNORECASE):
        may = "s3:ListBucket on the bucket, s3:GetObject, s3:PutObject and s3:DeleteObject on its objects"
        return f"these credentials may not do that at {root} ({said}): have them permitted {may}"
    if isinstance(error, PermissionError) or "Credentials" in name:
        return f"{root} refuses these credentials ({said}): check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    if isinstance(error, FileNotFoundError):
        return f"there is no bucket for {root} ({said}): make it first, or name another store (--store, store=)"
    return f"{root} does not answer ({name}: {said}): check AWS_ENDPOINT_URL and the network, then run again"


class Listing:
    """The objects below a prefix. Safe to use from several threads.

    `pins` are files without rows that the listing shows DuckDB and the bucket does not hold: a pattern that matches no
    file is an error in DuckDB.
    """

    def __init__(self, root: str, files: Any, path: str, pins: Mapping[str, bytes]) -> None:
        self.root, self._files, self._path, self.pins = root, files, path, pins
        self._lock = threading.RLock()
        self._objects: dict[str, ListedObject] = {}
        self._until = 0.0
        self._contents: OrderedDict[tuple[str, str], bytes] = OrderedDict()
        self._failure: Exception | None = None

    def objects(self) -> dict[str, ListedObject]:
        """Every object by its name below the prefix, as it was listed not long ago."""
        with self._lock:
            if monotonic() >= self._until:
                listed = asked(self.root, lambda: self._files.find(self._path, detail=True))
                skip = len(self._path) + 1
                self._objects = {
                    path[skip:]: ListedObject(int(info["size"]), str(info.get("ETag") or info.get("created") or ""))
                    for path, info in listed.items()
                    if path.startswith(f"{self._path}/")
                }
                self._until = monotonic() + SECONDS
            return self._objects

    def found(self, name: str) -> ListedObject:
        """One object. Raises FileNotFoundError where there is none."""
        try:
            return self.objects()[name]
        except KeyError:
            raise FileNotFoundError(f"{self.root}/{name}") from None

    def forget(self) -> None:
        """Have the next question list the objects again."""
        with self._lock:
            self._until = 0.0

    def wrote(self, name: str, content: bytes) -> None:
        """Know of an object that this process created."""
        with self._lock:
            self._objects = self._objects | {name: ListedObject(len(content), "own")}
            self._keep((name, "own"), content)

    def removed(self, name: str) -> None:
        """Know that an object was deleted or overwritten."""
        with self._lock:
            self._contents.pop((name, "own"), None)
            self._objects = {other: found for other, found in self._objects.items() if other != name}

    def open(self, name: str) -> IO[bytes]:
        """An object for reading. Raises FileNotFoundError where there is none."""
        if name in self.pins:
            return io.BytesIO(self.pins[name])
        found = self.found(name)
        if found.size <= SMALL:
            return io.BytesIO(self._content(name, found))
        return io.BufferedReader(_Parts(lambda begin, end: self._part(name, begin, end), found.size), PART)

    def _content(self, name: str, found: ListedObject) -> bytes:
        with self._lock:
            for key in ((name, found.version), (name, "own")):
                if key in self._contents and len(self._contents[key]) == found.size:
                    self._contents.move_to_end(key)
                    return self._contents[key]
        content = self._part(name, 0, found.size) if found.size else b""
        with self._lock:
            self._keep((name, found.version), content)
        return content

    def _keep(self, key: tuple[str, str], content: bytes) -> None:
        self._contents[key] = content
        while sum(map(len, self._contents.values())) > KEPT:
            self._contents.popitem(last=False)

    def _part(self, name: str, begin: int, end: int) -> bytes:
        """Bytes begin .. end - 1 of an object. The end is always given, as s3fs would ask for the size without it."""
        path = f"{self._path}/{name}"
        return asked(self.root, lambda: bytes(self._files.cat_file(path, start=begin, end=end)))

    def failed(self, error: Exception) -> None:
        """Keep what a connection met: DuckDB hands on its text alone."""
        with self._lock:
            self._failure = error
            self._until = 0.0

    def raise_failure(self) -> None:
        """Raise what a connection met since this was asked last."""
        with self._lock:
            failure, self._failure = self._failure, None
        if failure:
            raise failure

    def file_system(self, protocol: str) -> AbstractFileSystem:
        """The objects as DuckDB reads them, under the URLs of the store alone."""
        return _ListingFileSystem(self, protocol)


class _Parts(io.RawIOBase):
    """A great object, read part by part."""

    def __init__(self, part: Callable[[int, int], bytes], size: int) -> None:
        self._part, self._size, self._at = part, size, 0

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to an offset from the beginning, from here or from the end; the new offset."""
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` from here on; how many bytes that was, 0 at the end."""
        end = min(self._size, self._at + len(buffer))
        content = self._part(self._at, end) if end > self._at else b""
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


class _ListedFile:
    """A file that DuckDB reads: it asks a file for its path."""

    def __init__(self, file: IO[bytes], path: str, failed: Callable[[Exception], None]) -> None:
        self._file, self.path, self._failed = file, path, failed

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes; the listing hears of what fails, which DuckDB would swallow."""
        try:
            return self._file.read(size)
        except Exception as error:
            self._failed(error)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class _ListingFileSystem(AbstractFileSystem):  # type: ignore[misc]  # fsspec has no types
    """A file system for DuckDB, of what a listing knows; it answers to full URLs below the store's own."""

    cachable = False

    def __init__(self, listing: Listing, protocol: str) -> None:
        super().__init__()
        self.protocol = (protocol,)
        self._listing = listing

    def _name(self, path: str) -> str:
        root = f"{self._listing.root}/"
        if not path.startswith(root):
            raise FileNotFoundError(f"{path} is not in the store {self._listing.root}")
        return path.removeprefix(root)

    def glob(self, path: str, **_: Any) -> list[str]:
        """URLs of the objects, and of the pins, that a pattern matches."""
        try:
            names = {*self._listing.objects(), *self._listing.pins}
        except Exception as error:
            self._listing.failed(error)
            raise
        urls = [f"{self._listing.root}/{name}" for name in names]
        pattern = path.replace("/**/", "/*")
        return sorted(url for url in urls if fnmatch.fnmatchcase(url, pattern))

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """An object for reading."""
        try:
            return _ListedFile(self._listing.open(self._name(path)), path, self._listing.failed)
        except Exception as error:
            self._listing.failed(error)
            raise

    def size(self, path: str) -> int:
        """Bytes of an object."""
        name = self._name(path)
        return len(self._listing.pins[name]) if name in self._listing.pins else self._listing.found(name).size

    def modified(self, path: str) -> datetime.datetime:
        """The same moment for every object: it never changes under its name."""
        return _EPOCH

    def exists(self, path: str, **_: Any) -> bool:
        """Whether there is such an object."""
        name = self._name(path)
        return name in self._listing.pins or name in self._listing.objects()

    def isfile(self, path: str) -> bool:
        """Whether there is such an object."""
        return self.exists(path)
