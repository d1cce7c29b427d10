import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from official import TEST, TRAIN, Official, build

import synthesize

# Imported by test files before they name it as a plugin.
pytest.register_assert_rewrite("painted_model", "three_signs")

REAL = Path(__file__).parents[3] / "shared" / "data" / "gtsrb"


@pytest.fixture
def official() -> Official:
    """All 43 classes at 32x32."""
    return build()


@pytest.fixture
def few():
    """A maker of archives with few classes: ``few(classes, tracks, frames, size)``."""
    return build


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory) -> Path:
    """A synthetic data set of original sizes: 43 classes, 3 tracks of 2 frames, 2 test images each."""
    folder = tmp_path_factory.mktemp("synthetic")
    numbers = {"seed": 3, "tracks-per-class": 3, "frames-per-track": 2, "test-per-class": 2, "processes": 1}
    options = [f"--{name}={value}" for name, value in numbers.items()]
    assert synthesize.main(["--output-dir", str(folder), *options]) == 0
    return folder


DUPLICATES = ("00666.ppm", "02291.ppm")
"""Two of the eight test images that are frames of training track 14/00023 as well."""


@pytest.fixture(scope="session")
def whole_real() -> Path:
    """The real data, whole."""
    if not REAL.is_dir():
        pytest.skip(f"the real GTSRB is not at {REAL}")
    return REAL


@pytest.fixture(scope="session")
def real(whole_real, tmp_path_factory) -> Path:
    """The real data, cut to three tracks and a test image or more of each class, and two of the known duplicates.

    Two, because the tolerance for them is a share of the set.
    """
    folder = tmp_path_factory.mktemp("real")
    tracks = {14: ("00000", "00001", "00023")}
    with _cut(whole_real, folder, "GTSRB_Final_Training_Images.zip") as (whole, cut):
        for class_id in range(43):
            table = f"{TRAIN}/{class_id:05d}/GT-{class_id:05d}.csv"
            wanted = tracks.get(class_id, ("00000", "00001", "00002"))
            header, *rows = whole.read(table).decode().splitlines()
            kept = [row for row in rows if row.startswith(wanted)]
            cut.writestr(table, "\r\n".join([header, *kept]))
            _copy(whole, cut, f"{TRAIN}/{class_id:05d}", kept)
    with _cut(whole_real, folder, "GTSRB_Final_Test_GT.zip") as (whole, cut):
        header, *rows = whole.read("GT-final_test.csv").decode().splitlines()
        first = {row.rpartition(";")[2]: row for row in reversed(rows)}.values()
        kept = [
            row for number, row in enumerate(rows) if number % 40 == 0 or row in first or row.startswith(DUPLICATES)
        ]
        cut.writestr("GT-final_test.csv", "\r\n".join([header, *kept]))
    with _cut(whole_real, folder, "GTSRB_Final_Test_Images.zip") as (whole, cut):
        _copy(whole, cut, TEST, kept)
    return folder


@contextmanager
def _cut(source: Path, target: Path, name: str) -> Iterator[tuple[zipfile.ZipFile, zipfile.ZipFile]]:
    with zipfile.ZipFile(source / name) as whole, zipfile.ZipFile(target / name, "w") as cut:
        yield whole, cut


def _copy(whole: zipfile.ZipFile, cut: zipfile.ZipFile, folder: str, rows: list[str]) -> None:
    for row in rows:
        name = f"{folder}/{row.partition(';')[0]}"
        cut.writestr(name, whole.read(name))
