"""Images that look alike are found, whatever happened to them on the way, and never divided."""

import io
import tracemalloc
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest
from layouts import encoded, write
from PIL import Image, ImageEnhance

import preprocess
from trafficsigns.grouping import ALIKE, groups, vectors
from trafficsigns.pictures import THUMBNAIL, thumbnails
from trafficsigns.sources import open_archive


def scene(seed: int, side: int = 60) -> Image.Image:
    """A picture with large structures, as photographs have them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8))
    return coarse.resize((side, side), Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


CHANGES = {
    "as it was": lambda image: image,
    "stored again": lambda image: jpeg(image, 40),
    "smaller": lambda image: image.resize((25, 25), Image.Resampling.BILINEAR),
    "larger": lambda image: image.resize((200, 200), Image.Resampling.BICUBIC),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "with less contrast": lambda image: ImageEnhance.Contrast(image).enhance(0.6),
    "cut a little": lambda image: image.crop((1, 1, 59, 59)),
}


def thumbnail(image: Image.Image) -> bytes:
    return image.convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).tobytes()


@pytest.mark.parametrize("change", CHANGES)
def test_a_picture_is_known_again(change):
    small = [thumbnail(CHANGES[change](scene(seed))) for seed in range(20)]
    numbers = groups(vectors([*small, *(thumbnail(scene(seed)) for seed in range(20))]))
    assert numbers[:20].tolist() == numbers[20:].tolist()
    assert len(set(numbers)) == 20


def test_groups_are_chains_and_do_not_depend_on_order_or_blocks(monkeypatch):
    axis = np.random.default_rng(3).normal(size=(2, THUMBNAIL**2))
    # Neighbours on a circle are alike (cosine 0.97), ends of the chain are not.
    turned = [np.cos(a) * axis[0] + np.sin(a) * axis[1] for a in np.arange(12) * 0.25]
    small = [np.clip(128 + 30 * each, 0, 255).astype(np.uint8).tobytes() for each in turned]
    compared = vectors(small)
    assert set(groups(compared)) == {0}
    assert len(set(groups(compared[[0, 6, 11]]))) == 3
    monkeypatch.setattr("trafficsigns.grouping._BLOCK", 5)
    assert set(groups(compared)) == {0}


def test_many_pictures_that_are_all_alike_take_no_room_for_their_pairs():
    compared = vectors([thumbnail(scene(1))] * 6000)
    tracemalloc.start()
    numbers = groups(compared)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert set(numbers) == {numbers[0]}
    # Their 18 million pairs alone, two numbers of eight bytes each, would be 288 MB.
    assert peak < 250e6


def test_products_are_whole_numbers_and_exact():
    """So that no machine and no number of threads comes to another group."""
    compared = vectors([thumbnail(scene(seed)) for seed in range(50)])
    assert (compared == np.rint(compared)).all()
    assert (compared.astype(np.float64) ** 2).sum(axis=1).max() < 2**24
    exact = compared.astype(np.int64) @ compared.astype(np.int64).T
    np.testing.assert_array_equal((compared @ compared.T).astype(np.int64), exact)
    assert 0 < ALIKE < 1


def test_flat_pictures_are_alike_and_unlike_all_others_and_unreadable_ones_are_alone():
    flat = [bytes([level]) * THUMBNAIL**2 for level in (0, 7, 255)]
    numbers = groups(vectors([*flat, thumbnail(scene(1)), b"", b""]))
    assert len(set(numbers[:3])) == 1
    assert len(set(numbers)) == 4


def test_without_their_tracks_frames_of_real_signs_are_mostly_not_known_again(whole_real):
    """What the documentation says of grouping's limits, on 780 frames of 26 stop signs."""
    archive = open_archive(whole_real)
    frames = sorted((e.file, e.track) for e in archive.annotations() if e.track.startswith("14/"))
    numbers = groups(vectors(thumbnails(archive, [file for file, _ in frames])))
    assert (len(frames), len({track for _, track in frames}), len(set(numbers))) == (780, 26, 657)


def copies(classes: int = 3, pictures: int = 12) -> dict[str, bytes]:
    """For each picture of each class three files: as it is, smaller, and brighter."""
    members = {}
    for class_id in range(classes):
        for number in range(pictures):
            original = scene(1000 * class_id + number)
            for name, change in (("a", "as it was"), ("b", "smaller"), ("c", "brighter")):
                members[f"{class_id}/{name}{number:02d}.png"] = encoded(np.asarray(CHANGES[change](original)))
    return members


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_no_group_crosses_from_one_split_to_another(seed, tmp_path):
    archive = write(tmp_path / "signs", copies())
    options = ["--input-dir", str(archive), "--output-dir", str(tmp_path / "out"), "--seed", str(seed)]
    assert preprocess.main(options) == 0
    found = pd.read_parquet(tmp_path / "out" / "manifest" / "manifest-00000.parquet")
    assert (found.groupby("group")["split"].nunique() == 1).all()
    # What is known of how the pictures were made, not what the grouping found.
    origins = defaultdict(set)
    for row in found.itertuples():
        origins[row.class_id, row.file[-6:-4]].add(row.split)
    assert len(origins) == 36
    assert all(len(splits) == 1 for splits in origins.values())
    assert found.groupby("split")["class_id"].nunique().to_dict() == {"train": 3, "validation": 3, "test": 3}
