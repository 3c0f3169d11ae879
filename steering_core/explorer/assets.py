"""The page's files: read once, named by their content so that browsers keep them, and never looked up on disk again."""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path

from starlette.responses import Response

STATIC = Path(str(package_files("steering_core.explorer"))) / "static"
PREFIX = "/static/"
_KEPT = "public, max-age=31536000, immutable"  # another content has another address
_SMALL = 1024  # bytes, below which packing gains nothing


@dataclass(frozen=True)
class Asset:
    """One file, whole and gzipped."""

    content: bytes
    packed: bytes
    kind: str

    def answer(self, packs: bool, kept: str) -> Response:
        """The response with it, packed where the browser `packs`."""
        headers = {"cache-control": kept, "vary": "accept-encoding"}
        if packs and self.packed:
            return Response(self.packed, media_type=self.kind, headers={**headers, "content-encoding": "gzip"})
        return Response(self.content, media_type=self.kind, headers=headers)


@dataclass(frozen=True)
class Assets:
    """Every file by its path, the version that stands in their addresses, and the page that names them so."""

    files: dict[str, Asset]
    version: str
    page: Asset

    def answer(self, version: str, name: str, packs: bool) -> Response:
        """The file `name` of this version; 404 for any other."""
        found = self.files.get(name) if version == self.version else None
        return found.answer(packs, _KEPT) if found else Response("there is no such file", status_code=404)


@cache
def assets() -> Assets:
    """The page's files."""
    contents = {p.relative_to(STATIC).as_posix(): p.read_bytes() for p in sorted(STATIC.rglob("*")) if p.is_file()}
    digest = hashlib.sha256()
    for name, content in contents.items():
        digest.update(f"{name} {len(content)} ".encode() + content)
    version = digest.hexdigest()[:12]
    page = contents.pop("index.html").replace(PREFIX.encode(), f"{PREFIX}{version}/".encode())
    return Assets({name: _asset(name, content) for name, content in contents.items()}, version, _asset(".html", page))


def _asset(name: str, content: bytes) -> Asset:
    packed = gzip.compress(content, mtime=0) if len(content) >= _SMALL else b""
    return Asset(content, packed, mimetypes.guess_type(f"a{name}" if name.startswith(".") else name)[0] or "text/plain")
