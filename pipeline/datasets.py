"""Data sets on their way to S3: synthetic, from a folder, downloaded, or already there."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from pipeline.clouds import Cloud
from pipeline.settings import ROOT, Settings

OFFICIAL_ARCHIVE = "https://sid.erda.dk/public/archives/daaeac0d7ce1152aea9b61d9f1e19370"
OFFICIAL_FILES = {
    "GTSRB_Final_Training_Images.zip": "f33fd80ac59bff73c82d25ab499e03a3",
    "GTSRB_Final_Test_Images.zip": "c7e4e6327067d32654124b0fe9e82185",
    "GTSRB_Final_Test_GT.zip": "fe31e9c9270bbcd7b84b7f21a9d9d9e5",
}
"""The benchmark's final stage: file names and the MD5 sums that its archive publishes."""

NEARBY = ROOT.parent / "shared" / "data" / "gtsrb"
"""Where the data set lies on the project's own machines."""


class DatasetError(Exception):
    """A data set that cannot be had; the text is one line with the reason and the way out."""


def synthetic(settings: Settings, folder: Path) -> Path:
    """Draw the synthetic data set into a folder, in the official archives' layout.

    Raises ``DatasetError`` with the script's own reason.
    """
    quick = settings.quickstart
    command = [sys.executable, str(ROOT / "steps" / "synthesize.py"), "--output-dir", str(folder)]
    numbers = {
        "--seed": settings.data.seed,
        "--tracks-per-class": quick.tracks_per_class,
        "--frames-per-track": quick.frames_per_track,
        "--test-per-class": quick.test_per_class,
    }
    for option, value in numbers.items():
        command += [option, str(value)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise DatasetError(lines[-1] if lines else f"steps/synthesize.py ended with exit code {done.returncode}")
    return folder


def official(folder: Path) -> Path:
    """Download the official archives into a folder, each checked against its published MD5 sum.

    What is already there and whole is kept. Raises ``DatasetError``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, expected in OFFICIAL_FILES.items():
        target = folder / name
        if target.is_file() and _md5(target) == expected:
            continue
        partial = target.with_suffix(".part")
        try:
            urllib.request.urlretrieve(f"{OFFICIAL_ARCHIVE}/{name}", partial)  # noqa: S310  # the scheme is ours
        except (urllib.error.URLError, OSError) as error:
            raise DatasetError(
                f"cannot download {OFFICIAL_ARCHIVE}/{name}: {error}; fetch it by hand and name its folder with --data"
            ) from error
        if _md5(partial) != expected:
            raise DatasetError(f"{partial} has another MD5 sum than {expected}: the download is damaged, run it again")
        partial.rename(target)
    return folder


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        # The archive publishes MD5; it guards against damage here, not against an attacker.
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _files(folder: Path) -> list[Path]:
    """Return what belongs to the data set: the official zips where they are, else all files of the folder.

    Raises ``DatasetError`` for a folder that does not exist or is empty, and for a zip that is not whole.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} does not exist or is no folder: name one with the GTSRB archives in it")
    zips = [folder / name for name in OFFICIAL_FILES if (folder / name).is_file()]
    for path in zips:
        if not zipfile.is_zipfile(path):
            raise DatasetError(f"{path} is not a whole zip file: download it again")
    files = zips or sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise DatasetError(f"{folder} is empty: put the GTSRB archives there, or leave out --data")
    return files


def upload(settings: Settings, cloud: Cloud, folder: Path) -> str:
    """Put a folder's data set under an S3 prefix named by its content, and return the address.

    What is there already is not sent again. Raises ``DatasetError``.
    """
    files = _files(folder)
    prefix = f"{settings.name}/data/{_digest(folder, files)}"
    s3 = cloud.client("s3")
    there = set(_keys(s3, cloud.bucket, f"{prefix}/"))
    for path in files:
        key = f"{prefix}/{path.relative_to(folder).as_posix()}"
        if key not in there:
            s3.upload_file(str(path), cloud.bucket, key)
    return f"s3://{cloud.bucket}/{prefix}"


def _digest(folder: Path, files: list[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()[:16]


def existing(cloud: Cloud, address: str) -> str:
    """Return an S3 prefix that holds a data set. Raises ``DatasetError`` when it holds nothing."""
    parsed = urlparse(address)
    s3 = cloud.client("s3")
    try:
        empty = next(_keys(s3, parsed.netloc, parsed.path.lstrip("/")), None) is None
    except s3.exceptions.NoSuchBucket:
        empty = True
    if empty:
        raise DatasetError(f"{address} holds no objects: name a prefix with the GTSRB archives in it")
    return address.rstrip("/")


def _keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (item["Key"] for item in page.get("Contents", []))
