"""The same small set in every layout that is read, made to be compared and broken."""

import csv
import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
from official import TEST, Official
from PIL import Image

BOX = ("Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2")


def pixels_of(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def encoded(pixels: np.ndarray, form: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def write(folder: Path, members: dict[str, bytes]) -> Path:
    for name, content in members.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def pack(folder: Path, members: dict[str, bytes], name: str = "archive.zip") -> Path:
    folder.mkdir(exist_ok=True)
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content)
    return folder


def _rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode()), delimiter=";"))


def kaggle(files: Official, root: str = "") -> dict[str, bytes]:
    """Kaggle's form of an official set: PNG files, commas, paths."""
    members: dict[str, bytes] = {}
    tables = {"Train.csv": [], "Test.csv": []}
    for name, content in files.train.items():
        if not name.endswith(".csv"):
            continue
        for row in _rows(content):
            class_id = int(name.split("/")[-2])
            path = f"Train/{class_id}/{class_id:05d}_{row['Filename'].replace('.ppm', '.png')}"
            members[root + path] = encoded(pixels_of(files.train[f"{name.rpartition('/')[0]}/{row['Filename']}"]))
            tables["Train.csv"].append({**row, "Path": path})
    for row in _rows(files.labels["GT-final_test.csv"]):
        path = f"Test/{row['Filename'].replace('.ppm', '.png')}"
        members[root + path] = encoded(pixels_of(files.test[f"{TEST}/{row['Filename']}"]))
        tables["Test.csv"].append({**row, "Path": path})
    for table, rows in tables.items():
        text = io.StringIO()
        writer = csv.DictWriter(text, [*BOX, "ClassId", "Path"], extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        members[root + table] = text.getvalue().encode()
    return members


def arrays(classes: int = 3, images: int = 4, seed: int = 1) -> dict[str, np.ndarray]:
    """What one pickle holds."""
    rng = np.random.default_rng(seed)
    features = rng.integers(0, 256, (classes * images, 32, 32, 3), np.uint8)
    return {"features": features, "labels": np.repeat(np.arange(classes, dtype=np.uint8), images)}


def pickles(protocol: int = 2) -> dict[str, bytes]:
    return {
        name: pickle.dumps(arrays(seed=seed), protocol)
        for seed, name in enumerate(("train.p", "valid.p", "test.p"), start=1)
    }


def folders(classes: int = 3, images: int = 6, form: str = "PNG", size: int = 40) -> dict[str, bytes]:
    """A folder a class, of pictures that have nothing to do with each other."""
    rng = np.random.default_rng(2)
    ending = {"PNG": "png", "JPEG": "jpg", "PPM": "ppm"}[form]
    return {
        f"class {number}/picture {index}.{ending}": encoded(rng.integers(0, 256, (size, size, 3), np.uint8), form)
        for number in range(classes)
        for index in range(images)
    }
