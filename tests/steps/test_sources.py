import csv
import io
from collections import Counter

import pytest
from official import HEADER, TEST, TRAIN

from trafficsigns.failures import StepError
from trafficsigns.sources import Annotation, open_archive


def refusal(folder) -> str:
    with pytest.raises(StepError) as caught:
        list(open_archive(folder).annotations())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_annotations_are_those_of_the_tables(few, tmp_path):
    archive = open_archive(few(classes=2, tracks=2, frames=1, size=(20, 30)).zip(tmp_path / "zips"))
    assert sorted(archive.annotations()) == [
        Annotation(f"{TEST}/00000.ppm", "test", 0, "", 30, 20, (1, 2, 29, 18), 2),
        Annotation(f"{TEST}/00001.ppm", "test", 1, "", 30, 20, (1, 2, 29, 18), 3),
        Annotation(f"{TRAIN}/00000/00000_00000.ppm", "train", 0, "0/00000", 30, 20, (1, 2, 29, 18), 2),
        Annotation(f"{TRAIN}/00000/00001_00000.ppm", "train", 0, "0/00001", 30, 20, (1, 2, 29, 18), 3),
        Annotation(f"{TRAIN}/00001/00000_00000.ppm", "train", 1, "1/00000", 30, 20, (1, 2, 29, 18), 2),
        Annotation(f"{TRAIN}/00001/00001_00000.ppm", "train", 1, "1/00001", 30, 20, (1, 2, 29, 18), 3),
    ]


def test_a_folder_reads_as_the_zips_that_it_was_unpacked_from(few, tmp_path):
    files = few(classes=3)
    zipped, unpacked = open_archive(files.zip(tmp_path / "zips")), open_archive(files.unpack(tmp_path / "folder"))
    assert sorted(zipped.annotations()) == sorted(unpacked.annotations())
    assert sorted(zipped.images()) == sorted(unpacked.images())
    assert all(zipped.read(a.file) == unpacked.read(a.file) for a in zipped.annotations())


def test_labels_unpacked_beside_the_test_images_are_found(few, tmp_path):
    files = few(classes=1)
    files.labels = {f"{TEST}/GT-final_test.csv": files.labels["GT-final_test.csv"]}
    listed = open_archive(files.unpack(tmp_path)).annotations()
    assert [annotation.split for annotation in listed].count("test") == 1


def test_a_byte_order_mark_and_another_order_of_columns_do_no_harm(few, tmp_path):
    files = few(classes=2)
    expected = list(open_archive(files.zip(tmp_path / "plain")).annotations())
    rows = list(csv.DictReader(io.StringIO(files.labels["GT-final_test.csv"].decode()), delimiter=";"))
    text = io.StringIO()
    writer = csv.DictWriter(text, sorted(HEADER.split(";")), delimiter=";")
    writer.writeheader()
    writer.writerows(rows)
    files.labels["GT-final_test.csv"] = text.getvalue().encode("utf-8-sig")
    assert list(open_archive(files.zip(tmp_path / "reordered")).annotations()) == expected


def test_the_synthetic_set_is_read_like_the_real_one(synthetic):
    annotations = list(open_archive(synthetic).annotations())
    assert len(annotations) == 43 * (3 * 2 + 2)
    assert {annotation.class_id for annotation in annotations} == set(range(43))


def test_the_real_set_is_read_whole(whole_real):
    annotations = list(open_archive(whole_real).annotations())
    tracks = Counter(annotation.track for annotation in annotations if annotation.split == "train")
    assert (len(annotations) - tracks.total(), tracks.total()) == (12630, 39209)
    # One track of class 33 lost a frame; all others have thirty.
    assert Counter(tracks.values()) == {30: 1306, 29: 1}
    assert {annotation.class_id for annotation in annotations} == set(range(43))
    assert min(min(annotation.width, annotation.height) for annotation in annotations) >= 15


def test_a_missing_folder_is_named(tmp_path):
    assert f"{tmp_path}/absent is not a folder" in refusal(tmp_path / "absent")


def test_an_empty_folder_tells_what_was_expected(tmp_path):
    assert "GTSRB_Final_Training_Images.zip" in refusal(tmp_path)
    assert "It holds nothing" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["Training_Images", "Test_Images", "Test_GT"])
def test_a_missing_zip_is_named_and_no_other(name, few, tmp_path):
    folder = few(classes=1).zip(tmp_path / "zips")
    (folder / f"GTSRB_Final_{name}.zip").unlink()
    missing = refusal(folder).partition("missing ")[2]
    assert missing == f"GTSRB_Final_{name}.zip"


@pytest.mark.parametrize("name", ["Training_Images", "Test_Images", "Test_GT"])
def test_a_truncated_zip_is_named(name, few, tmp_path):
    folder = few(classes=1).zip(tmp_path / "zips")
    path = folder / f"GTSRB_Final_{name}.zip"
    path.write_bytes(path.read_bytes()[:-30])
    assert refusal(folder).startswith(f"{path} is not a whole zip file")


def test_training_images_without_tables_are_refused(few, tmp_path):
    files = few(classes=1)
    del files.train[f"{TRAIN}/00000/GT-00000.csv"]
    folder = files.zip(tmp_path / "zips")
    assert refusal(folder).startswith(f"{folder}/GTSRB_Final_Training_Images.zip holds no {TRAIN}/CCCCC/GT-CCCCC.csv")


def test_labels_without_their_table_are_refused(few, tmp_path):
    files = few(classes=1)
    files.labels = {"readme.txt": b"no labels here"}
    folder = files.zip(tmp_path / "zips")
    assert refusal(folder).startswith(f"{folder}/GTSRB_Final_Test_GT.zip holds no GT-final_test.csv")


TABLE = f"{TRAIN}/00000/GT-00000.csv"


@pytest.mark.parametrize(
    ("old", "new", "place", "reason"),
    [
        ("ClassId\r", "Class\r", TABLE, "lacks the columns ClassId"),
        ("Filename;Width", "Filename,Width", TABLE, "lacks the columns Filename, Width"),
        ("00000_00000.ppm;32", "00000_00000.ppm;wide", f"{TABLE}, line 2", "'wide'"),
        ("00000_00001.ppm;32", "00000_00001.ppm;32.0", f"{TABLE}, line 3", "'32.0'"),
        (
            "00000_00000.ppm;32;32;1;2;31;30;0",
            "00000_00000.ppm;32",
            f"{TABLE}, line 2",
            "expected 8 values, as the header has",
        ),
        ("00000_00000.ppm", "", f"{TABLE}, line 2", "'' is not the name of a file"),
        ("00000_00000.ppm", "../../secret.ppm", f"{TABLE}, line 2", "'../../secret.ppm' is not the name of a file"),
        (";30;0\r", ";30;-1\r", f"{TABLE}, line 2", "ClassId is -1: expected 0 or more"),
    ],
)
def test_a_broken_table_is_named_with_the_line(old, new, place, reason, few, tmp_path):
    files = few(classes=1)
    files.edit(TABLE, old, new)
    folder = files.zip(tmp_path / "zips")
    text = refusal(folder)
    assert text.startswith(f"{folder}/GTSRB_Final_Training_Images.zip: {place}")
    assert reason in text


@pytest.mark.parametrize("part", ["train", "labels"])
def test_tables_without_rows_are_refused(part, few, tmp_path):
    files = few(classes=1)
    for name in getattr(files, part):
        if name.endswith(".csv"):
            getattr(files, part)[name] = f"{HEADER}\r\n".encode()
    assert "list no image" in refusal(files.zip(tmp_path / "zips"))


@pytest.mark.parametrize("form", ["zip", "unpack"])
def test_an_image_that_is_listed_but_absent_is_named(form, few, tmp_path):
    files = few(classes=1)
    name = f"{TRAIN}/00000/00001_00000.ppm"
    del files.train[name]
    archive = open_archive(getattr(files, form)(tmp_path / form))
    with pytest.raises(StepError, match=f"{form}.* does not hold {name}, which its annotations list"):
        archive.read(name)


def test_a_damaged_member_is_named(few, tmp_path):
    files = few(classes=1, tracks=1, frames=1)
    folder = files.zip(tmp_path / "zips")
    path = folder / "GTSRB_Final_Training_Images.zip"
    content = bytearray(path.read_bytes())
    # The first member's compressed bytes start after its 30 bytes of header and its name.
    start = 30 + len(f"{TRAIN}/00000/00000_00000.ppm")
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    with pytest.raises(StepError, match=r"00000_00000\.ppm cannot be read .*download the archive again"):
        open_archive(folder).read(f"{TRAIN}/00000/00000_00000.ppm")
