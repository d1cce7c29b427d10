"""Moves job data between S3 and folders by the rules of SageMaker's inputs and outputs."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

CHUNK = 1024 * 1024


class TransferFailed(Exception):
    """An object that cannot be read or written; the text names it, as a ``FailureReason``."""


TRANSFER_ERRORS = (TransferFailed, ClientError, BotoCoreError, OSError)
"""What moving data between S3 and a folder may raise."""


class MissingObjects(Exception):
    """An input that names nothing; the text is SageMaker's ``FailureReason``."""


def split(uri: str) -> tuple[str, str]:
    """Split ``s3://bucket/key`` into bucket and key."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, key.lstrip("/")


def _listing(s3: Any, bucket: str, prefix: str) -> list[str]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    return sorted(item["Key"] for page in pages for item in page.get("Contents", []) if not item["Key"].endswith("/"))


def _manifest(s3: Any, uri: str) -> tuple[str, list[tuple[str, str]]]:
    """Read a manifest file, ``[{"prefix": "s3://..."}, "relative/path", ...]``, as bucket and (key, relative path)."""
    bucket, key = split(uri)
    try:
        head, *paths = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
        bucket, prefix = split(head["prefix"])
        return bucket, [(prefix + path, path.lstrip("/")) for path in paths]
    except (TypeError, AttributeError, KeyError, ValueError) as error:
        raise ValueError(f'{uri} is no manifest: expected [{{"prefix": "s3://..."}}, "path", ...]') from error


def _fetch(s3: Any, bucket: str, key: str, path: Path) -> None:
    try:
        # One request an object: boto3's transfer manager takes two and a pool of threads, which only distance repays.
        with path.open("wb") as file:
            shutil.copyfileobj(s3.get_object(Bucket=bucket, Key=key)["Body"], file, CHUNK)
    except (ClientError, BotoCoreError) as error:
        raise TransferFailed(f"ClientError: s3://{bucket}/{key} cannot be read: {error}") from error


def _store(s3: Any, path: Path, bucket: str, key: str) -> None:
    try:
        # A running script may write on: what is sent is what was there at one moment, in memory or as the manager
        # counts.
        if path.stat().st_size > 8 * CHUNK:
            s3.upload_file(str(path), bucket, key)
        else:
            s3.put_object(Bucket=bucket, Key=key, Body=path.read_bytes())
    except (ClientError, BotoCoreError, Boto3Error) as error:
        raise TransferFailed(f"ClientError: s3://{bucket}/{key} cannot be written: {error}") from error


def listed(s3: Any, uri: str, data_type: str = "S3Prefix") -> tuple[str, list[tuple[str, str]]]:
    """List what a data source names (``S3Prefix`` or ``ManifestFile``) as bucket and pairs of key and relative path.

    Raises ``MissingObjects`` when that is nothing, ``ValueError`` when the manifest is none.
    """
    bucket, prefix = split(uri)
    try:
        if data_type == "ManifestFile":
            bucket, pairs = _manifest(s3, uri)
        else:
            pairs = [(key, _relative(key, prefix)) for key in _listing(s3, bucket, prefix)]
    except ClientError as error:
        if error.response["Error"]["Code"] not in ("NoSuchBucket", "NoSuchKey"):
            raise
        pairs = []
    if not pairs:
        raise MissingObjects(
            f'ClientError: No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the '
            "bucket exists in the selected region (same as the job), that objects exist under that S3 prefix, and that "
            "the role has the permission to list and get objects from this bucket."
        )
    return bucket, pairs


def download(
    s3: Any, uri: str, folder: Path, data_type: str = "S3Prefix", instance: int = 0, instances: int = 1
) -> None:
    """Copy the objects of a data source into a folder, keeping their relative paths.

    ``instance`` of ``instances`` takes its share, every n-th object in the order of keys (ShardedByS3Key); one instance
    takes all. Raises ``MissingObjects`` when the source names nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bucket, pairs = listed(s3, uri, data_type)
    for key, relative in pairs[instance::instances]:
        target = folder / relative
        if ".." in target.parts or not target.is_relative_to(folder):
            raise ValueError(f"the object s3://{bucket}/{key} would leave the folder that it is copied to")
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch(s3, bucket, key, target)


def _relative(key: str, prefix: str) -> str:
    rest = key.removeprefix(prefix)
    # A prefix names a folder with or without its slash, one whole object, or the beginning of several names.
    if prefix.endswith("/") or rest.startswith("/"):
        return rest.lstrip("/")
    return prefix.rpartition("/")[2] + rest


class Mirror:
    """A folder that is copied under a prefix, again and again: each time what is new or has changed since."""

    def __init__(self, s3: Any, folder: Path, uri: str) -> None:
        self._s3, self._folder = s3, folder
        self._bucket, prefix = split(uri)
        self._prefix = f"{prefix.rstrip('/')}/".lstrip("/")
        self._seen: dict[Path, tuple[int, int]] = {}

    def restore(self) -> None:
        """Fetch what an earlier job left under the prefix, if anything; it need not be copied back.

        Raises one of ``TRANSFER_ERRORS``.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with suppress(MissingObjects):
            download(self._s3, f"s3://{self._bucket}/{self._prefix}", self._folder)
        self._seen = self._states()

    def sync(self) -> int:
        """Copy what is new or has changed and return how many files there were; nothing is ever removed from S3.

        Raises one of ``TRANSFER_ERRORS``.
        """
        changed = {path: state for path, state in self._states().items() if self._seen.get(path) != state}
        for path, state in changed.items():
            with suppress(FileNotFoundError):  # A running script may rename or remove it just now.
                _store(self._s3, path, self._bucket, self._prefix + path.relative_to(self._folder).as_posix())
                # Its state from before the copy: what was written meanwhile goes up the next time.
                self._seen[path] = state
        return len(changed)

    def _states(self) -> dict[Path, tuple[int, int]]:
        states = {}
        for path in sorted(self._folder.rglob("*")):
            with suppress(FileNotFoundError):
                if path.is_file():
                    states[path] = (path.stat().st_mtime_ns, path.stat().st_size)
        return states


def upload_archive(s3: Any, folders: Sequence[Path], uri: str) -> None:
    """Pack the contents of one or more folders as one ``.tar.gz`` and copy it to ``uri``."""
    archive = folders[0].with_name(folders[0].name + ".tar.gz")
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for folder in folders:
            for path in sorted(folder.glob("*")):
                tar.add(path, arcname=path.name)
    bucket, key = split(uri)
    _store(s3, archive, bucket, key)
    archive.unlink()


def unpack(s3: Any, uri: str, folder: Path) -> None:
    """Fetch a ``.tar.gz`` and unpack it into a folder; members that would leave the folder are refused."""
    folder.mkdir(parents=True, exist_ok=True)
    bucket, key = split(uri)
    archive = folder.with_name(folder.name + ".tar.gz")
    _fetch(s3, bucket, key, archive)
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
