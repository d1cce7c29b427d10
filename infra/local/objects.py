"""Moves job data between S3 and folders by the rules of SageMaker's inputs and outputs."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError


class MissingObjects(Exception):
    """An input that names nothing; the text is SageMaker's."""


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
        return bucket, [(prefix + path, path) for path in paths]
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f'{uri} is no manifest: expected [{{"prefix": "s3://..."}}, "path", ...]') from error


def download(
    s3: Any, uri: str, folder: Path, data_type: str = "S3Prefix", instance: int = 0, instances: int = 1
) -> None:
    """Copy the objects under a prefix into a folder, keeping their relative paths.

    ``instance`` of ``instances`` takes its share, every n-th object in the order of keys (ShardedByS3Key); one instance
    takes all. Raises ``MissingObjects`` when the prefix holds nothing.
    """
    bucket, prefix = split(uri)
    folder.mkdir(parents=True, exist_ok=True)
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
    for key, relative in pairs[instance::instances]:
        target = folder / relative
        if ".." in target.parts:
            raise ValueError(f"the object s3://{bucket}/{key} would leave the folder that it is copied to")
        target.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file(bucket, key, str(target))


def _relative(key: str, prefix: str) -> str:
    rest = key.removeprefix(prefix)
    # A prefix names a folder with or without its slash, one whole object, or the beginning of several names.
    if prefix.endswith("/") or rest.startswith("/"):
        return rest.lstrip("/")
    return prefix.rpartition("/")[2] + rest


def upload(s3: Any, folder: Path, uri: str) -> int:
    """Copy a folder's files under a prefix and return how many there were."""
    bucket, prefix = split(uri)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in files:
        s3.upload_file(str(path), bucket, f"{prefix.rstrip('/')}/{path.relative_to(folder).as_posix()}")
    return len(files)


def upload_archive(s3: Any, folder: Path, uri: str) -> None:
    """Pack a folder's content as ``.tar.gz`` and copy it to ``uri``."""
    archive = folder.with_name(folder.name + ".tar.gz")
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        for path in sorted(folder.glob("*")):
            tar.add(path, arcname=path.name)
    bucket, key = split(uri)
    s3.upload_file(str(archive), bucket, key)
    archive.unlink()


def unpack(s3: Any, uri: str, folder: Path) -> None:
    """Fetch a ``.tar.gz`` and unpack it into a folder; members that would leave the folder are refused."""
    folder.mkdir(parents=True, exist_ok=True)
    bucket, key = split(uri)
    archive = folder.with_name(folder.name + ".tar.gz")
    s3.download_file(bucket, key, str(archive))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    archive.unlink()
