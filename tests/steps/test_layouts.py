"""Layouts beside the official one: found without being asked for, and read for what they are."""

import pickle

import numpy as np
import pytest
from layouts import arrays, encoded, folders, kaggle, pack, pickles, pixels_of, write
from official import TEST, TRAIN, build

from trafficsigns.classes import CLASS_NAMES
from trafficsigns.failures import StepError
from trafficsigns.pictures import decode
from trafficsigns.sources import open_archive
from trafficsigns.sources.listing import collect, unlisted


@pytest.mark.parametrize("way", [write, pack], ids=["folder", "zip"])
@pytest.mark.parametrize("root", ["", "gtsrb-german-traffic-sign/"])
def test_kaggle_tells_the_same_as_the_official_archives(way, root, tmp_path):
    files = build(classes=3, size=(20, 30))
    official = open_archive(files.zip(tmp_path / "official"))
    archive = open_archive(way(tmp_path / "kaggle", kaggle(files, root)))
    assert archive.layout == "kaggle"
    known = {(each.split, each.class_id, each.track, each.width, each.height, each.roi, each.row) for each in
             archive.annotations() if each.split == "test"}  # fmt: skip
    assert known == {(e.split, e.class_id, e.track, e.width, e.height, e.roi, e.row) for e in official.annotations()
                     if e.split == "test"}  # fmt: skip
    tracks = {(each.file.rpartition("_")[0][-5:], each.track) for each in archive.annotations() if each.track}
    assert {track for _, track in tracks} == {each.track for each in official.annotations() if each.track}
    first = next(archive.annotations())
    assert first.file == f"{root}Train/0/00000_00000_00000.png"
    expected = pixels_of(files.train[f"{TRAIN}/00000/00000_00000.ppm"])
    np.testing.assert_array_equal(np.asarray(decode(archive.read(first.file))), expected)
    assert unlisted(collect(archive.annotations()), archive) == []


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_pickles_of_every_protocol_give_their_arrays(protocol, tmp_path):
    archive = open_archive(write(tmp_path, pickles(protocol)))
    assert archive.layout == "pickles"
    assert archive.class_names == CLASS_NAMES
    listed = list(archive.annotations())
    assert [(e.file, e.split, e.class_id, e.track, e.row) for e in listed[:2]] == [
        ("test.p/000000.ppm", "test", 0, "", 0),
        ("test.p/000001.ppm", "test", 0, "", 1),
    ]
    assert {each.split for each in listed} == {"train", "validation", "test"}
    expected = arrays(seed=1)["features"][5]
    np.testing.assert_array_equal(np.asarray(decode(archive.read("train.p/000005.ppm"))), expected)


def test_pickles_with_sizes_and_coordinates_keep_them(tmp_path):
    whole = arrays()
    count = len(whole["labels"])
    whole |= {"sizes": np.tile([60, 50], (count, 1)), "coords": np.tile([5, 6, 55, 45], (count, 1))}
    archive = open_archive(write(tmp_path, {"train.pickle": pickle.dumps(whole)}))
    first = next(archive.annotations())
    assert (first.width, first.height, first.roi) == (60, 50, (5, 6, 55, 45))


def test_arrays_that_lie_by_columns_or_in_another_order_of_bytes_are_read_right(tmp_path):
    whole = arrays()
    odd = {"features": np.asfortranarray(whole["features"]), "labels": whole["labels"].astype(">i4")}
    archive = open_archive(write(tmp_path, {"train.p": pickle.dumps(odd)}))
    assert [each.class_id for each in archive.annotations()] == whole["labels"].tolist()
    np.testing.assert_array_equal(np.asarray(decode(archive.read("train.p/000007.ppm"))), whole["features"][7])


def test_signnames_beside_pickles_name_the_classes(tmp_path):
    names = b'ClassId,SignName\n0,Stop\n1,Give way\n2,"Turn, left"\n'
    archive = open_archive(write(tmp_path, {**pickles(), "signnames.csv": names}))
    assert archive.class_names == ("Stop", "Give way", "Turn, left")


def test_names_beside_pickles_go_by_their_numbers_in_whatever_order_they_stand(tmp_path):
    names = b"ClassId,SignName\n2,Roundabout\n0,Stop\n1,Give way\n"
    archive = open_archive(write(tmp_path, {**pickles(), "signnames.csv": names}))
    assert archive.class_names == ("Stop", "Give way", "Roundabout")


@pytest.mark.parametrize("lines", [b"0,Stop\n2,Roundabout\n", b"stop,Stop\nyield,Give way\n", b"0,Stop\n00,Give way\n"])
def test_names_beside_pickles_that_do_not_number_the_classes_are_refused(lines, tmp_path):
    archive = open_archive(write(tmp_path, {**pickles(), "signnames.csv": b"ClassId,SignName\n" + lines}))
    with pytest.raises(StepError, match=r"signnames.csv: expected the classes' numbers, 0 to 1,"):
        _ = archive.class_names


@pytest.mark.parametrize("form", ["PNG", "JPEG", "PPM"])
@pytest.mark.parametrize("way", [write, pack], ids=["folder", "zip"])
def test_a_folder_a_class_needs_nothing_else(form, way, tmp_path):
    archive = open_archive(way(tmp_path / "signs", folders(form=form)))
    assert (archive.layout, archive.class_names) == ("folders", ("class 0", "class 1", "class 2"))
    first = next(archive.annotations())
    assert (first.split, first.class_id, first.track, first.width, first.roi) == ("", 0, "", None, None)
    assert decode(archive.read(first.file)).size == (40, 40)


def test_class_numbers_follow_the_folders_in_natural_order(tmp_path):
    picture = encoded(np.zeros((20, 20, 3), np.uint8))
    archive = open_archive(write(tmp_path, {f"{name}/a.png": picture for name in ("10", "2", "1", "é")}))
    assert archive.class_names == ("1", "2", "10", "é")
    assert {each.file: each.class_id for each in archive.annotations()} == {
        "1/a.png": 0, "2/a.png": 1, "10/a.png": 2, "é/a.png": 3,
    }  # fmt: skip


def test_folders_that_differ_in_leading_zeros_alone_have_one_order(tmp_path):
    """Names come from a set, whose order differs from process to process."""
    picture = encoded(np.zeros((20, 20, 3), np.uint8))
    pairs = [f"{zeros}{number}" for number in range(1, 9) for zeros in ("", "0")]
    archive = open_archive(write(tmp_path, {f"{name}/a.png": picture for name in pairs}))
    assert archive.class_names == tuple(f"{zeros}{number}" for number in range(1, 9) for zeros in ("0", ""))


def test_a_class_name_file_gives_names_and_keeps_a_place_for_a_class_without_images(tmp_path):
    members = folders(classes=2)
    members["classes.csv"] = b"Folder,Name\nclass 0,Stop\nclass 1,Give way\nclass 2,Roundabout\n"
    archive = open_archive(write(tmp_path, members))
    assert archive.class_names == ("Stop", "Give way", "Roundabout")
    assert {each.class_id for each in archive.annotations()} == {0, 1}


def test_folders_may_be_divided_into_splits_and_into_signs(tmp_path):
    picture = encoded(np.zeros((20, 20, 3), np.uint8))
    names = ("Train/a/sign 1/1.png", "Train/a/sign 2/1.png", "Train/b/00003_00001.png", "val/b/1.png", "TEST/a/1.png")
    archive = open_archive(write(tmp_path, dict.fromkeys(names, picture)))
    assert {each.file: (each.split, each.class_id, each.track) for each in archive.annotations()} == {
        "Train/a/sign 1/1.png": ("train", 0, "0/sign 1"),
        "Train/a/sign 2/1.png": ("train", 0, "0/sign 2"),
        "Train/b/00003_00001.png": ("train", 1, "1/00003"),
        "val/b/1.png": ("validation", 1, ""),
        "TEST/a/1.png": ("test", 0, ""),
    }


def test_hidden_files_are_not_looked_at(tmp_path):
    members = {**folders(), "class 0/._picture 0.png": b"x", "__MACOSX/class 0/a.png": b"x", ".DS_Store": b"x"}
    assert len(open_archive(write(tmp_path, members)).images()) == 18


def test_images_that_no_table_lists_are_found(tmp_path):
    files = build(classes=2)
    files.train[f"{TRAIN}/00001/00009_00000.ppm"] = files.test[f"{TEST}/00000.ppm"]
    archive = open_archive(files.zip(tmp_path / "zips"))
    assert unlisted(collect(archive.annotations()), archive) == [f"{TRAIN}/00001/00009_00000.ppm"]


def test_images_that_are_listed_but_absent_are_counted_and_named(tmp_path):
    files = build(classes=2)
    for name in ("00000.ppm", "00001.ppm"):
        del files.test[f"{TEST}/{name}"]
    archive = open_archive(files.zip(tmp_path / "zips"))
    with pytest.raises(StepError, match=rf"list 2 images that the archive does not hold: {TEST}/00000.ppm, {TEST}"):
        unlisted(collect(archive.annotations()), archive)
