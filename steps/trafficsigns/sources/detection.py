"""Finds out which layout a folder holds."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from trafficsigns.failures import StepError
from trafficsigns.sources import kaggle, listed, official, pickles
from trafficsigns.sources.annotations import Archive, is_image, some
from trafficsigns.sources.files import Files, UnpackedFiles, ZippedFiles
from trafficsigns.sources.folders import FolderArchive
from trafficsigns.sources.kaggle import KaggleArchive
from trafficsigns.sources.listed import ListedArchive
from trafficsigns.sources.official import OfficialArchive
from trafficsigns.sources.pickles import PickledArchive

_ZIPS = (official.TRAIN_IMAGES, official.TEST_IMAGES, official.TEST_LABELS)


def open_archive(folder: Path, images: Path | None = None) -> Archive:
    """Open the data set in a folder, in whichever of the known layouts it is.

    ``images`` is where the pictures of a listed set lie, all of them or this instance's share. Raises ``StepError``
    that says what was expected and what lies there instead.
    """
    if not folder.is_dir():
        raise StepError(f"{folder} is not a folder: expected one with a data set in it")
    if (folder / listed.FILE).is_file():
        return ListedArchive(folder, images or folder)
    zips = [folder / name for name in _ZIPS]
    if any(path.is_file() for path in zips):
        if missing := [path.name for path in zips if not path.is_file()]:
            raise StepError(f"{folder} is no whole data set: missing {', '.join(missing)}")
        return OfficialArchive(*map(ZippedFiles, zips))
    return _opened(_files(folder), folder)


def _files(folder: Path) -> Files:
    """Return the files below a folder, or those inside the one zip that lies in it."""
    files = UnpackedFiles(folder)
    packed = [name for name in files.names() if name.lower().endswith(".zip")]
    if len(packed) == 1 and not any(is_image(name) for name in files.names()):
        return ZippedFiles(folder / packed[0])
    return files


def _opened(files: Files, folder: Path) -> Archive:
    names = files.names()
    if any(name.startswith(official.TRAIN_ROOT) for name in names):
        if not any(name.startswith(official.TEST_ROOT) for name in names):
            raise StepError(f"{files.place} is no whole data set: missing {official.TEST_ROOT}/")
        return OfficialArchive(files, files, files)
    tables = {PurePosixPath(name).name: name for name in names if PurePosixPath(name).name in kaggle.TABLES}
    if tables:
        if missing := [table for table in kaggle.TABLES if table not in tables]:
            raise StepError(f"{files.place} is no whole data set: missing {', '.join(missing)}")
        return KaggleArchive(files, tables["Train.csv"].removesuffix("Train.csv"))
    if found := pickles.pickles_in(files):
        if not any(pickles.split_of(name) == "train" for name in found):
            raise StepError(f"{files.place} is no whole data set: missing train.p beside {some(found)}")
        return PickledArchive(files)
    pictures = [name for name in names if is_image(name)]
    if pictures:
        return FolderArchive(files, _common(pictures))
    raise StepError(
        f"{folder} is no data set that can be read: expected {', '.join(_ZIPS)}; or what they unpack to; Train.csv and "
        f"Test.csv with their folders; train.p, valid.p and test.p; or a folder of pictures for each class. "
        f"It holds {some(names) or 'nothing'}"
    )


def _common(pictures: list[str]) -> str:
    """Return the folders that all pictures lie in: what a zip was packed under says nothing about classes."""
    parts = [PurePosixPath(name).parent.parts for name in (min(pictures), max(pictures))]
    shared = []
    for one, other in zip(*parts, strict=False):
        if one != other:
            break
        shared.append(one)
    return "".join(f"{part}/" for part in shared)
