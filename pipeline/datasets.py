"""Data sets on their way to S3: synthetic, from a folder, downloaded, or already there.

Archives (zips, pickles) go up as they are, and every machine reads them all. Folders of pictures go up in two parts: a
listing, which every machine gets, and the pictures, of which each machine gets a share.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import downloads, objects
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
"""Beside the repository, where the project's own machines have a copy; its sums are not the published ones."""

OFFICIAL_IMAGES = 51_839
"""39,209 to train on and 12,630 to test on."""

LISTING = ("listing.parquet", "dataset.json")
"""What steps/describe.py writes for the machines that share a folder of pictures."""

_PICTURES = (".ppm", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Dataset:
    """Where a data set lies in S3."""

    address: str
    """Archives, or the listing of pictures."""
    images: str | None = None
    """The pictures of a listed set."""

    @property
    def parameters(self) -> dict[str, str]:
        """The pipeline parameters that name it."""
        return {"InputData": self.address, **({} if self.images is None else {"InputImages": self.images})}


class DatasetError(Exception):
    """A data set that cannot be had; the text is one line with the reason and the way out."""


def synthetic(settings: Settings, folder: Path) -> Path:
    """Draw the synthetic data set into a folder, in the official archives' layout.

    Raises ``DatasetError`` with the script's own reason.
    """
    quick = settings.quickstart
    run_step(
        "synthesize.py",
        {
            "output-dir": folder,
            "seed": settings.data.seed,
            "tracks-per-class": quick.tracks_per_class,
            "frames-per-track": quick.frames_per_track,
            "test-per-class": quick.test_per_class,
        },
    )
    return folder


def run_step(script: str, options: Mapping[str, object], flags: Sequence[str] = ()) -> str:
    """Run one of the step scripts here and return what it printed. Raises ``DatasetError`` with the script's reason."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, str(ROOT / "steps" / script), *words, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise DatasetError(lines[-1] if lines else f"steps/{script} ended with exit code {done.returncode}")
    return done.stdout


def official(folder: Path, progress: downloads.Progress = lambda name, here, total: None) -> Path:
    """Download the official archives into a folder, each checked against its published MD5 sum.

    What is already there and whole is kept, what broke off is continued. Raises ``DatasetError``.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DatasetError(f"{folder} cannot be made a folder: {error.strerror}") from error
    for name, expected in OFFICIAL_FILES.items():
        try:
            downloads.fetch(f"{OFFICIAL_ARCHIVE}/{name}", folder / name, expected, progress)
        except downloads.DownloadError as error:
            raise DatasetError(f"{error}. Or fetch it by hand and name its folder with --data") from error
    return folder


def described(folder: Path, output: Path, *, contact_sheet: bool) -> dict[str, Any]:
    """Look at a folder's data set with steps/describe.py and return what it says. Raises ``DatasetError``."""
    flags = ["--contact-sheet"] if contact_sheet else []
    run_step("describe.py", {"input-dir": folder, "output-dir": output}, flags)
    said: dict[str, Any] = json.loads((output / "description.json").read_text(encoding="utf-8"))
    return said


def _files(folder: Path) -> list[Path]:
    """Return what belongs to the data set: the official zips where they are, else all files of the folder.

    Raises ``DatasetError`` for a folder that does not exist or is empty, and for a zip that is not whole.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} does not exist or is no folder: name one with a data set in it")
    zips = [folder / name for name in OFFICIAL_FILES if (folder / name).is_file()]
    for path in zips:
        if not zipfile.is_zipfile(path):
            raise DatasetError(f"{path} is not a whole zip file: download it again")
    files = zips or sorted(path for path in folder.rglob("*") if path.is_file() and not _hidden(path, folder))
    if not files:
        raise DatasetError(f"{folder} is empty: put the GTSRB archives there, or leave out --data")
    return files


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.relative_to(folder).parts)


def upload(settings: Settings, cloud: Cloud, folder: Path) -> Dataset:
    """Put a folder's data set under an S3 prefix named by its content, and return where it lies.

    What is there already is not sent again. Raises ``DatasetError``.
    """
    files = _files(folder)
    prefix = f"{settings.name}/data/{_digest(folder, files)}"
    address = f"s3://{cloud.bucket}/{prefix}"
    pictures = [path for path in files if path.suffix.lower() in _PICTURES]
    if not pictures:
        _send(cloud, folder, files, prefix)
        return Dataset(address)
    with tempfile.TemporaryDirectory() as scratch:
        described(folder, Path(scratch), contact_sheet=False)
        _send(cloud, Path(scratch), [Path(scratch) / name for name in LISTING], f"{prefix}/listing")
    _send(cloud, folder, pictures, f"{prefix}/images")
    return Dataset(f"{address}/listing", f"{address}/images")


def _send(cloud: Cloud, folder: Path, files: Sequence[Path], prefix: str) -> None:
    s3 = cloud.client("s3")
    there = set(objects.keys(s3, cloud.bucket, f"{prefix}/"))
    for path in files:
        key = f"{prefix}/{path.relative_to(folder).as_posix()}"
        if key not in there:
            s3.upload_file(str(path), cloud.bucket, key)


def _digest(folder: Path, files: list[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return total.hexdigest()[:16]


def existing(settings: Settings, cloud: Cloud, address: str) -> Dataset:
    """Return the data set under an S3 prefix. Raises ``DatasetError`` when there is nothing, or no job could read it.

    Where ``upload`` put a folder of pictures, or somebody laid one out alike, its two parts are found.
    """
    bucket, root = objects.split(address)
    if cloud.kind == "aws" and bucket != cloud.bucket and not settings.aws.job_roles.preprocess:
        raise DatasetError(
            f"{address} is not in {cloud.bucket}, the only bucket that the stacks' roles may read: copy it there "
            f"(aws s3 sync), or name a role that may in [aws.job_roles] preprocess"
        )
    s3 = cloud.client("s3")

    def holds(prefix: str) -> bool:
        return next(objects.keys(s3, bucket, prefix), None) is not None

    try:
        if not holds(root):
            raise DatasetError(f"{address} holds no objects: name a prefix with the GTSRB archives in it")
        # What `signs run` calls such a set's address, and the registry its data, is that of the listing.
        if root.endswith("/listing") and holds(f"{root}/{LISTING[0]}"):
            root = root.removesuffix("/listing")
        listed = holds(f"{root}/listing/{LISTING[0]}")
    except s3.exceptions.NoSuchBucket as error:
        raise DatasetError(f"{address} holds no objects: there is no bucket {bucket}") from error
    whole = f"s3://{bucket}/{root}".rstrip("/")
    return Dataset(f"{whole}/listing", f"{whole}/images") if listed else Dataset(whole)


def mark_absence(settings: Settings, cloud: Cloud) -> None:
    """Make sure that the prefix for pictures that a set does not have is not empty: an S3 input cannot be."""
    key = f"{no_images(settings, cloud).removeprefix(f's3://{cloud.bucket}/')}/README.txt"
    text = b"A data set of archives has no pictures beside them; a job's input must name an object all the same."
    cloud.client("s3").put_object(Bucket=cloud.bucket, Key=key, Body=text)


def no_images(settings: Settings, cloud: Cloud) -> str:
    """Return the address of the prefix that stands for no pictures."""
    return f"s3://{cloud.bucket}/{settings.name}/data/no-images"
