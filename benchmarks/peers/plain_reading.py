"""The loop that everybody writes first: csv, zipfile, Pillow, one array. It checks, hashes and divides nothing."""

import csv
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image


def pictures(archive: zipfile.ZipFile, labels: zipfile.ZipFile, table: str, folder: str) -> Iterator[tuple]:
    """Yield pixels and classes of a table's images."""
    text = labels.read(table).decode()
    for row in csv.DictReader(io.StringIO(text), delimiter=";"):
        with Image.open(io.BytesIO(archive.read(f"{folder}/{row['Filename']}"))) as image:
            yield np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)), int(row["ClassId"])


def main(source: Path, target: Path) -> None:
    """Read the zips in one folder and write two arrays into another."""
    with (
        zipfile.ZipFile(source / "GTSRB_Final_Training_Images.zip") as train,
        zipfile.ZipFile(source / "GTSRB_Final_Test_Images.zip") as test,
        zipfile.ZipFile(source / "GTSRB_Final_Test_GT.zip") as labels,
    ):
        tables = [name for name in train.namelist() if name.endswith(".csv")]
        for name, parts in {
            "train": [pictures(train, train, table, table.rpartition("/")[0]) for table in tables],
            "test": [pictures(test, labels, "GT-final_test.csv", "GTSRB/Final_Test/Images")],
        }.items():
            features, classes = zip(*(each for part in parts for each in part), strict=True)
            np.savez(target / f"{name}.npz", features=np.stack(features), labels=np.array(classes))
            sys.stdout.write(f"{name} {len(classes)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
