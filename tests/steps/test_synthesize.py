"""The synthetic data set: its layout, its truths, its reproducibility, and signs that can be told apart."""

from __future__ import annotations

import io
import itertools
import zipfile

import numpy as np
import pytest
from PIL import Image

import synthesize
from trafficsigns import pictograms
from trafficsigns.classes import CLASS_NAMES
from trafficsigns.pictograms.shapes import Disc, Polygon, Stroke, mirrored, turned
from trafficsigns.synthetic import archives, tracks
from trafficsigns.synthetic.archives import Recipe
from trafficsigns.synthetic.noise import clouds
from trafficsigns.synthetic.tracks import photograph

CLASSES = len(CLASS_NAMES)
SMALL = Recipe(seed=3, tracks_per_class=2, frames_per_track=2, test_per_class=2)
NAMES = (archives.TRAINING_IMAGES, archives.TEST_IMAGES, archives.TEST_LABELS)
HEADER = ["Filename", "Width", "Height", "Roi.X1", "Roi.Y1", "Roi.X2", "Roi.Y2", "ClassId"]


def contents(folder):
    return [(folder / name).read_bytes() for name in NAMES]


def table(archive, name):
    lines = archive.read(name).decode().splitlines()
    return [line.split(";") for line in lines]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic")
    archives.write(SMALL, folder)
    return folder


def test_same_seed_gives_the_same_bytes_on_several_processes(folder, tmp_path):
    archives.write(SMALL, tmp_path, processes=2)
    assert contents(tmp_path) == contents(folder)


def test_another_seed_gives_other_images():
    one, other = (archives.test_frames(Recipe(seed=seed, test_per_class=1), 14)[0].pixels for seed in (1, 2))
    assert one.tobytes() != other.tobytes()


def test_a_sign_does_not_change_when_more_are_asked_for():
    few = archives.test_frames(Recipe(test_per_class=1), 3)
    many = archives.test_frames(Recipe(test_per_class=3), 3)
    assert np.array_equal(few[0].pixels, many[0].pixels)


def test_training_and_test_show_different_signs():
    recipe = Recipe(tracks_per_class=3, frames_per_track=1, test_per_class=3)
    training = {track[0].pixels.tobytes() for track in archives.training_tracks(recipe, 0)}
    assert training.isdisjoint(frame.pixels.tobytes() for frame in archives.test_frames(recipe, 0))


def test_training_archive_has_the_official_names(folder):
    with zipfile.ZipFile(folder / archives.TRAINING_IMAGES) as archive:
        names = set(archive.namelist())
    expected = {f"GTSRB/Final_Training/Images/{c:05d}/GT-{c:05d}.csv" for c in range(CLASSES)}
    for class_id, track, frame in itertools.product(range(CLASSES), range(2), range(2)):
        expected.add(f"GTSRB/Final_Training/Images/{class_id:05d}/{track:05d}_{frame:05d}.ppm")
    assert names == expected


def test_test_archive_has_the_official_names_and_no_labels(folder):
    with zipfile.ZipFile(folder / archives.TEST_IMAGES) as archive:
        names = archive.namelist()
        annotations = table(archive, "GTSRB/Final_Test/Images/GT-final_test.test.csv")
    images = [f"GTSRB/Final_Test/Images/{number:05d}.ppm" for number in range(2 * CLASSES)]
    assert sorted(names) == sorted([*images, "GTSRB/Final_Test/Images/GT-final_test.test.csv"])
    assert annotations[0] == HEADER[:-1]
    assert {len(row) for row in annotations} == {7}


def test_test_labels_agree_with_the_annotations_and_are_shuffled(folder):
    with (
        zipfile.ZipFile(folder / archives.TEST_LABELS) as labels,
        zipfile.ZipFile(folder / archives.TEST_IMAGES) as images,
    ):
        truths = table(labels, "GT-final_test.csv")
        annotations = table(images, "GTSRB/Final_Test/Images/GT-final_test.test.csv")
    assert truths[0] == HEADER
    assert [row[:-1] for row in truths] == annotations
    class_ids = [int(row[-1]) for row in truths[1:]]
    assert sorted(class_ids) == sorted(2 * list(range(CLASSES)))
    assert class_ids != sorted(class_ids)


def test_annotations_describe_the_images(folder):
    with zipfile.ZipFile(folder / archives.TRAINING_IMAGES) as archive:
        for class_id in range(CLASSES):
            base = f"GTSRB/Final_Training/Images/{class_id:05d}"
            for name, *numbers in table(archive, f"{base}/GT-{class_id:05d}.csv")[1:]:
                width, height, left, top, right, bottom, label = map(int, numbers)
                encoded = archive.read(f"{base}/{name}")
                assert encoded.startswith(b"P6")
                assert Image.open(io.BytesIO(encoded)).size == (width, height)
                assert 0 <= left < right <= width
                assert 0 <= top < bottom <= height
                assert label == class_id


def test_members_carry_a_fixed_date(folder):
    with zipfile.ZipFile(folder / archives.TEST_LABELS) as archive:
        assert {member.date_time for member in archive.infolist()} == {(2011, 1, 1, 0, 0, 0)}


@pytest.mark.parametrize("class_id", [2, 13, 12, 14, 38])
def test_roi_holds_the_whole_sign_and_little_else(class_id, monkeypatch):
    # In full light, without blur and noise, before a black scene, only the sign is bright.
    white = Image.new("RGBA", (128, 128), (255, 255, 255, 255))
    white.putalpha(pictograms.draw(class_id, 128).getchannel("A"))
    monkeypatch.setattr(tracks, "aged", lambda face, rng: white)
    monkeypatch.setattr(tracks, "scene", lambda rng: Image.new("RGB", (96, 96)))
    light = tracks.Light(sign_gain=1, scene_gain=1, gamma=1, warmth=0, haze=0)
    camera = tracks.Camera(defocus=0, motion=0, direction=0, noise=0)
    monkeypatch.setattr(tracks.Light, "sample", lambda rng: light)
    monkeypatch.setattr(tracks.Camera, "sample", lambda rng: camera)
    for frame in photograph(class_id, [0, 0.5, 1], np.random.default_rng(class_id)):
        left, top, right, bottom = frame.roi
        rows, columns = np.nonzero(frame.pixels.max(axis=2) > 100)
        found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.all(found[:2] >= (left, top))
        assert np.all(found[2:] <= (right, bottom))
        assert np.abs(found - frame.roi).max() <= 2


def test_a_track_comes_nearer():
    frames = photograph(14, [0, 0.5, 1], np.random.default_rng(0))
    widths = [right - left for left, _, right, _ in (frame.roi for frame in frames)]
    assert widths == sorted(widths)
    assert widths[-1] >= 1.1 * widths[0]


def test_frames_of_a_track_are_more_alike_than_signs_of_a_class():
    def thumbnail(frame):
        return np.asarray(Image.fromarray(frame.pixels).resize((16, 16)), dtype=float)

    signs = [photograph(1, [0.2, 0.8], np.random.default_rng(seed)) for seed in range(12)]
    within = [np.abs(thumbnail(one) - thumbnail(other)).mean() for one, other in signs]
    between = [
        np.abs(thumbnail(one[0]) - thumbnail(other[0])).mean() for one, other in itertools.combinations(signs, 2)
    ]
    assert np.mean(within) < 0.5 * np.mean(between)


def test_pictograms_differ_even_small_and_grey():
    """Every pair differs by 4 of 255 grey levels or more, averaged over 32 x 32 pixels: as much as strong noise."""
    ground = Image.new("RGBA", (32, 32), (128, 128, 128, 255))
    small = [Image.alpha_composite(ground, pictograms.draw(class_id, 32)).convert("L") for class_id in range(CLASSES)]
    grey = np.stack([np.asarray(image, dtype=float) for image in small])
    distances = {
        (CLASS_NAMES[one], CLASS_NAMES[other]): np.abs(grey[one] - grey[other]).mean()
        for one, other in itertools.combinations(range(CLASSES), 2)
    }
    closest = min(distances, key=distances.get)
    assert distances[closest] >= 4, closest


@pytest.mark.parametrize(("one", "other"), [(19, 20), (33, 34), (36, 37), (38, 39)])
def test_left_and_right_signs_are_mirror_images(one, other):
    flipped = pictograms.draw(one, 64).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    difference = np.abs(np.asarray(flipped, dtype=float) - np.asarray(pictograms.draw(other, 64), dtype=float))
    assert difference.mean() < 4


def test_there_is_a_face_for_every_class():
    assert len(pictograms.FACES) == CLASSES


def test_shapes_can_be_mirrored_and_turned():
    picture = (Polygon(((10, 20), (30, 20), (10, 50))), Stroke(((0, 50), (100, 50)), 4), Disc((50, 20), 5))
    assert mirrored(mirrored(picture)) == picture
    below = turned(picture, 180)[2]
    assert below.centre == pytest.approx((50, 80))
    assert turned(picture, 90)[2].centre == pytest.approx((80, 50))


def test_clouds_span_zero_to_one():
    field = clouds(np.random.default_rng(0), 48, finest=16)
    assert field.shape == (48, 48)
    assert (field.min(), field.max()) == (0, 1)


def test_command_writes_archives_and_contact_sheet(tmp_path):
    sheet = tmp_path / "sheet.png"
    least = ["--tracks-per-class", "1", "--frames-per-track", "1", "--test-per-class", "1", "--processes", "1"]
    assert synthesize.main(["--output-dir", str(tmp_path / "made"), *least, "--contact-sheet", str(sheet)]) == 0
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == sorted(NAMES)
    assert Image.open(sheet).width > 1000


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--seed", "-1"),
        ("--tracks-per-class", "0"),
        ("--frames-per-track", "100001"),
        ("--test-per-class", "2326"),
        ("--processes", "0"),
        ("--contact-sheet", "sheet.jpg"),
        ("--contact-sheet", "no-such-folder/sheet.png"),
    ],
)
def test_bad_option_is_one_line_naming_it(option, value, tmp_path, capsys):
    assert synthesize.main(["--output-dir", str(tmp_path / "made"), option, value]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert option in error
    assert value in error
    assert not (tmp_path / "made").exists()


def test_folder_that_is_a_file_is_one_line_naming_it(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert synthesize.main(["--output-dir", str(blocked)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(blocked) in error


def test_failure_leaves_earlier_archives_and_no_half_written_ones(folder, tmp_path, monkeypatch):
    for name in NAMES:
        (tmp_path / name).write_bytes(b"earlier")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(archives, "test_frames", fail)
    with pytest.raises(OSError, match="disk full"):
        archives.write(Recipe(tracks_per_class=1, frames_per_track=1, test_per_class=1), tmp_path)
    assert contents(tmp_path) == [b"earlier"] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)
