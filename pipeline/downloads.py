"""Large files from the web: with progress, continued where they broke off, and taken only with the right checksum."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

Progress = Callable[[str, int, int | None], None]
"""Is told a file's name, how many bytes of it are here, and how many there are in all, if the server says so."""

CHUNK = 1024 * 1024
SECONDS = 60
"""Of silence after which a server is given up."""


class DownloadError(Exception):
    """A file that cannot be had; the text is one line with the address and the reason."""


def fetch(address: str, target: Path, md5: str, progress: Progress) -> bool:
    """Bring a file here unless it is here and whole; returns whether anything was transferred.

    What an earlier, broken transfer left beside the target, with the ending ``.part``, is continued where the server
    allows it. Raises ``DownloadError`` when the server does not give the file, breaks off, or gives another one; in the
    last case the part is removed, so that the next attempt begins anew.
    """
    if target.is_file() and sum_of(target) == md5:
        return False
    partial = target.with_name(f"{target.name}.part")
    if not (partial.is_file() and sum_of(partial) == md5):
        _transfer(address, partial, target.name, progress)
    if (found := sum_of(partial)) != md5:
        partial.unlink()
        raise DownloadError(f"{address} has the MD5 sum {found} instead of {md5}: run it again; a proxy may interfere")
    partial.replace(target)
    return True


def _transfer(address: str, partial: Path, name: str, progress: Progress) -> None:
    here = partial.stat().st_size if partial.is_file() else 0
    request = urllib.request.Request(address, headers={"Range": f"bytes={here}-"} if here else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:  # noqa: S310  # the address is ours
            # A server that knows no ranges answers 200 and the whole file.
            continued = answer.status == 206
            here = here if continued else 0
            length = answer.headers.get("Content-Length")
            total = None if length is None else here + int(length)
            with partial.open("ab" if continued else "wb") as file:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    here += len(chunk)
                    progress(name, here, total)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # Nothing is left to send: the checksum decides.
            raise DownloadError(f"{address}: {error.code} {error.reason}") from error
    except (urllib.error.URLError, HTTPException, OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadError(f"{address} broke off after {here} bytes ({reason}): run it again to continue") from error
    else:
        if total is not None and here < total:
            raise DownloadError(f"{address} broke off after {here} of {total} bytes: run it again to continue")


def sum_of(path: Path) -> str:
    """Return a file's MD5 sum: it guards against damage here, not against an attacker."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
