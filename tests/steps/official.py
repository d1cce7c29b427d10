"""Tiny data sets in GTSRB's official layout, made to be broken."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

TRAIN, TEST = "GTSRB/Final_Training/Images", "GTSRB/Final_Test/Images"
HEADER = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId"


@dataclass
class Official:
    """The three archives as names and contents, to be broken before they are written."""

    train: dict[str, bytes]
    test: dict[str, bytes]
    labels: dict[str, bytes]

    def zip(self, folder: Path) -> Path:
        folder.mkdir()
        for name, members in (
            ("GTSRB_Final_Training_Images.zip", self.train),
            ("GTSRB_Final_Test_Images.zip", self.test),
            ("GTSRB_Final_Test_GT.zip", self.labels),
        ):
            with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
                for member, content in members.items():
                    archive.writestr(member, content)
        return folder

    def unpack(self, folder: Path) -> Path:
        for member, content in {**self.train, **self.test, **self.labels}.items():
            path = folder / member
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder

    def edit(self, member: str, old: str, new: str) -> None:
        """Replace text in one of the tables, once."""
        members = self.labels if member in self.labels else self.train
        assert old.encode() in members[member]
        members[member] = members[member].replace(old.encode(), new.encode(), 1)


def ppm(pixels: np.ndarray) -> bytes:
    height, width, _ = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes()


def build(classes: int = 43, tracks: int = 3, frames: int = 2, size: tuple[int, int] = (32, 32)) -> Official:
    """Make noise in the official layout: every class with some tracks and one test image."""
    rng = np.random.default_rng(5)
    height, width = size

    def picture() -> bytes:
        return ppm(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

    def row(name: str, class_id: int) -> str:
        return f"{name};{width};{height};1;2;{width - 1};{height - 2};{class_id}\r\n"

    archive = Official({}, {}, {})
    truths = ""
    for class_id in range(classes):
        folder = f"{TRAIN}/{class_id:05d}"
        rows = ""
        for track in range(tracks):
            for frame in range(frames):
                name = f"{track:05d}_{frame:05d}.ppm"
                archive.train[f"{folder}/{name}"] = picture()
                rows += row(name, class_id)
        archive.train[f"{folder}/GT-{class_id:05d}.csv"] = f"{HEADER}\r\n{rows}".encode()
        archive.test[f"{TEST}/{class_id:05d}.ppm"] = picture()
        truths += row(f"{class_id:05d}.ppm", class_id)
    archive.labels["GT-final_test.csv"] = f"{HEADER}\r\n{truths}".encode()
    return archive
