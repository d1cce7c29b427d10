"""Data sets that are broken as a whole, in a table, in a zip, in a pickle: how each is made, and what must be said."""

import pickle
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bad_images import WHOLE_PNG, pixels
from layouts import arrays, encoded, folders, kaggle, pack, pickles, write
from official import HEADER, TEST, TRAIN, Official, build, ppm

IMAGE = f"{TRAIN}/00001/00001_00000.ppm"
TABLE = f"{TRAIN}/00001/GT-00001.csv"
LABELS = "GT-final_test.csv"
CLASSES = 43

Broken = Callable[[Path], Path]


@dataclass(frozen=True)
class Kind:
    """A way to be bad: how it is made, and what must be said."""

    make: Broken
    said: tuple[str, ...]
    reported: bool = False
    """By validation, after preprocessing went through."""


KINDS: dict[str, Kind] = {}


def refused(name: str, *said: str):
    def add(make: Broken) -> Broken:
        KINDS[name] = Kind(make, said)
        return make

    return add


def table(name: str, old: str, new: str, *said: str, member: str = TABLE) -> None:
    """A changed annotation table: refused, with the table and its line."""

    def make(folder: Path) -> Path:
        files = build(CLASSES)
        files.edit(member, old, new)
        return files.zip(folder)

    KINDS[name] = Kind(make, (member, *said))


FIRST = "00000_00000.ppm;32;32;1;2;31;30;1"

table("a table without a column", "Width;", "", "lacks the columns Width")
table("a table with a column twice", "Width;Height", "Width;Height;Width", "has the columns Width twice")
table("a table with another separator", HEADER, HEADER.replace(";", ","), "lacks the columns Filename, Width")
table("a table with tabs", HEADER, HEADER.replace(";", "\t"), "lacks the columns")
table("a table without its header", f"{HEADER}\r\n", "", "lacks the columns")
table("a row that is too short", FIRST, "00000_00000.ppm;32;32", "line 2: expected 8 values")
table("a row that is too long", FIRST, f"{FIRST};5;6", "line 2: expected 8 values")
table("a label that is no number", FIRST, FIRST[:-1] + "stop", "line 2: ClassId is 'stop'")
table("a label that is a fraction", FIRST, FIRST[:-1] + "1.5", "line 2: ClassId is '1.5'")
table("a label that is not there", FIRST, FIRST[:-1], "line 2: ClassId is ''")
table("a negative label", FIRST, FIRST[:-1] + "-1", "line 2: ClassId is -1")
table("a label beyond all reason", FIRST, FIRST[:-1] + "999999999999", "line 2: ClassId is 999999999999")
table("a width that is no number", FIRST, FIRST.replace(";32;32", ";wide;32"), "line 2: Width is 'wide'")
table("a width that is NaN", FIRST, FIRST.replace(";32;32", ";nan;32"), "line 2: Width is 'nan'")
table("a region that is no number", FIRST, FIRST.replace(";1;2;", ";left;2;"), "line 2: Roi.X1 is 'left'")
table("a name with folders", "00000_00000.ppm", "../00000_00000.ppm", "line 2: '../00000_00000.ppm' is not the name")
table("an absolute name", "00000_00000.ppm", "/etc/passwd", "line 2: '/etc/passwd' is not the name")
table("a name of another system", "00000_00000.ppm", "..\\\\secret.ppm", "is not the name")
table("no name", "00000_00000.ppm", "", "line 2: '' is not the name")
table("a name without a track", "00000_00000.ppm", "picture.ppm", "line 2: 'picture.ppm' names no track")
table("a quote that does not end", "00000_00000.ppm", '"00000_00000.ppm', "line")
table("a label of the test set that is no number", ";30;0\r", ";30;x\r", "line 2: ClassId is 'x'", member=LABELS)


def value(name: str, old: str, new: str, rule: str, member: str = TABLE, said: str = "00000_00000.ppm (row 2)") -> None:
    """A table that can be read and says what cannot be: reported."""

    def make(folder: Path) -> Path:
        files = build(CLASSES)
        files.edit(member, old, new)
        return files.zip(folder)

    KINDS[name] = Kind(make, (rule, said), reported=True)


INSIDE = "the region of interest lies inside the image"

value("a label that no class has", FIRST, FIRST[:-1] + "99", "labels are classes 0 to 42 (1 of")
value("a label of another class", FIRST, FIRST[:-1] + "7", "a track shows one class")
value("a region beyond the right edge", FIRST, FIRST.replace(";31;30;", ";33;30;"), f"{INSIDE} (width above roi_right)")
value(
    "a region below the lower edge", FIRST, FIRST.replace(";31;30;", ";31;40;"), f"{INSIDE} (height above roi_bottom)"
)
value("a region before the left edge", FIRST, FIRST.replace(";1;2;", ";-1;2;"), f"{INSIDE} (roi_left at 0 or above)")
value("a region that is turned around", FIRST, FIRST.replace(";1;2;", ";31;2;"), f"{INSIDE} (roi_right above roi_left)")
value(
    "columns that were swapped",
    "Roi.X1;Roi.Y1;Roi.X2;Roi.Y2",
    "Roi.X2;Roi.Y2;Roi.X1;Roi.Y1",
    f"{INSIDE} (roi_right above roi_left)",
)
value("an image that is too small", FIRST, FIRST.replace(";32;32", ";14;32"), "widths are 15 to 4096 pixels")
value("an image that is listed twice", FIRST, f"{FIRST}\r\n{FIRST}", "every file is listed once (2 of")


def official(name: str, change: Callable[[Official], None], *said: str, reported: bool = False) -> None:
    def make(folder: Path) -> Path:
        files = build(CLASSES)
        change(files)
        return files.zip(folder)

    KINDS[name] = Kind(make, said, reported)


def drop(part: str, member: str) -> Callable[[Official], None]:
    return lambda files: getattr(files, part).pop(member)


def into_test(files: Official) -> None:
    """Let every frame of class 3 be a test image as well."""
    for number in range(3):
        files.test[f"{TEST}/{number:05d}.ppm"] = files.train[f"{TRAIN}/0000{number}/00000_00000.ppm"]


def without_class(files: Official) -> None:
    for name in [name for name in files.train if name.startswith(f"{TRAIN}/00042")]:
        del files.train[name]


official(
    "an image that is listed and absent", drop("train", IMAGE), "list 1 images that the archive does not hold", IMAGE
)
official("a test image that is listed and absent", drop("test", f"{TEST}/00007.ppm"), f"{TEST}/00007.ppm")
official("no table of labels", drop("labels", LABELS), "holds no GT-final_test.csv")
official(
    "a table of another encoding",
    lambda f: f.train.update({TABLE: f.train[TABLE] + b"\xff\xfe;1\r\n"}),
    TABLE,
    "is no UTF-8 text",
)
official("a binary file as table", lambda f: f.train.update({TABLE: bytes(range(256))}), TABLE)
official("an empty table", lambda f: f.train.update({TABLE: b""}), TABLE, "lacks the columns")
official(
    "pictures of the test set among those to train on",
    into_test,
    "no content stands in two splits",
    f"{TEST}/00000.ppm",
    reported=True,
)
official("a class that is missing", without_class, "every class has train images (1 missing: 42)", reported=True)
official(
    "a name in a zip that leads upwards",
    lambda f: f.train.update({"../outside.ppm": b"x"}),
    "'../outside.ppm' leads outside",
)
official(
    "an absolute name in a zip", lambda f: f.test.update({"/etc/cron.d/job": b"x"}), "'/etc/cron.d/job' leads outside"
)
official("a drive's name in a zip", lambda f: f.test.update({"C:/job.ppm": b"x"}), "'C:/job.ppm' leads outside")
official(
    "a bomb in a zip",
    lambda f: f.train.update({f"{TRAIN}/bomb.ppm": bytes(300_000_000)}),
    "bomb.ppm' unpacks from",
    "a zip bomb",
)


def zipped(name: str, change: Callable[[Path], None], *said: str) -> None:
    """A data set of which one zip is changed after it was written."""

    def make(folder: Path) -> Path:
        build(CLASSES).zip(folder)
        change(folder / "GTSRB_Final_Training_Images.zip")
        return folder

    KINDS[name] = Kind(make, ("GTSRB_Final_Training_Images.zip", *said))


def twice(path: Path) -> None:
    with pytest.warns(UserWarning), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(IMAGE, ppm(pixels(32, 32, 3)))


def encrypt(path: Path) -> None:
    """Mark the first member as encrypted, where it says so twice: in its own header and in the directory."""
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def garble(path: Path) -> None:
    content = bytearray(path.read_bytes())
    start = content.index(IMAGE.encode()) + len(IMAGE)
    content[start : start + 50] = bytes(50)
    path.write_bytes(content)


zipped("a zip that is cut", lambda path: path.write_bytes(path.read_bytes()[:-50]), "is not a whole zip file")
zipped("a zip of zero bytes", lambda path: path.write_bytes(b""), "is not a whole zip file")
zipped("a page with a zip's name", lambda path: path.write_bytes(b"<html>moved</html>" * 99), "is not a whole zip file")
zipped("a zip with a damaged member", garble, IMAGE, "cannot be read")
zipped("a zip with a name twice", twice, f"holds more than one {IMAGE}")
zipped("a zip with an encrypted member", encrypt, "is encrypted")


@refused("a zip that is missing", "missing GTSRB_Final_Test_GT.zip")
def _(folder: Path) -> Path:
    build(CLASSES).zip(folder)
    (folder / "GTSRB_Final_Test_GT.zip").unlink()
    return folder


@refused("an empty folder", "is no data set that can be read", "It holds nothing")
def _(folder: Path) -> Path:
    folder.mkdir()
    return folder


@refused("a folder of letters", "is no data set that can be read", "letter.txt")
def _(folder: Path) -> Path:
    return write(folder, {"letter.txt": b"Dear model"})


@refused("a folder that is not there", "is not a folder")
def _(folder: Path) -> Path:
    return folder


@refused("unpacked training images without test images", "missing GTSRB/Final_Test/Images/")
def _(folder: Path) -> Path:
    files = build(CLASSES)
    return write(folder, files.train)


def other(name: str, members: Callable[[], dict[str, bytes]], *said: str, reported: bool = False, way=write) -> None:
    KINDS[name] = Kind(lambda folder: way(folder, members()), said, reported)


def kaggle_with(old: bytes, new: bytes) -> dict[str, bytes]:
    members = kaggle(build(CLASSES))
    assert old in members["Train.csv"]
    return {**members, "Train.csv": members["Train.csv"].replace(old, new, 1)}


def without(members: dict[str, bytes], name: str) -> dict[str, bytes]:
    return {member: content for member, content in members.items() if member != name}


def hostile() -> bytes:
    return b"cos\nsystem\n(S'touch /tmp/never'\ntR."


other("Kaggle's layout without Test.csv", lambda: without(kaggle(build(2)), "Test.csv"), "missing Test.csv")
other(
    "Kaggle's path that leads upwards",
    lambda: kaggle_with(b"Train/0/00000_00000_00000.png", b"../../secret.png"),
    "Train.csv, line 2: '../../secret.png'",
)
other(
    "Kaggle's path that is absolute",
    lambda: kaggle_with(b"Train/0/00000_00000_00000.png", b"/etc/passwd"),
    "Train.csv, line 2: '/etc/passwd'",
)
other(
    "Kaggle's table with semicolons",
    lambda: kaggle_with(b"Width,Height,", b"Width;Height;"),
    "Train.csv lacks the columns Width, Height",
)
other(
    "Kaggle's zip with a name that leads upwards",
    lambda: {**kaggle(build(2)), "../x.png": b"x"},
    "'../x.png' leads outside",
    way=pack,
)
other(
    "a pickle that runs a command",
    lambda: {**pickles(), "test.p": hostile()},
    "test.p is not loaded: it asks for os.system",
)
other("a pickle that is cut", lambda: {**pickles(), "train.p": pickles()["train.p"][:-9]}, "train.p is no whole pickle")
other("a pickle of zero bytes", lambda: {**pickles(), "train.p": b""}, "train.p is no whole pickle")
other(
    "a pickle without labels",
    lambda: {"train.p": pickle.dumps({"features": arrays()["features"]})},
    "train.p lacks labels",
)
other("a pickle of a list", lambda: {"train.p": pickle.dumps([1, 2])}, "train.p is not loaded: it holds no dictionary")
other(
    "a pickle of fractions",
    lambda: {"train.p": pickle.dumps({**arrays(), "features": np.zeros((12, 32, 32, 3))})},
    "features are float64 [12, 32, 32, 3]: expected uint8",
)
other(
    "a pickle of grey pictures",
    lambda: {"train.p": pickle.dumps({**arrays(), "features": np.zeros((12, 32, 32, 1), np.uint8)})},
    "features are uint8 [12, 32, 32, 1]",
)
other(
    "a pickle with too few labels",
    lambda: {"train.p": pickle.dumps({**arrays(), "labels": np.zeros(3, np.uint8)})},
    "12 features, but labels are uint8 [3]",
)
other(
    "a pickle with a negative label",
    lambda: {"train.p": pickle.dumps({**arrays(), "labels": np.full(12, -2)})},
    "train.p, image 0: ClassId is -2",
)
other(
    "pickles without one to train on",
    lambda: without(without(pickles(), "train.p"), "valid.p"),
    "missing train.p beside test.p",
)
other("pictures in no folder", lambda: {**folders(), "lost.png": WHOLE_PNG}, "lost.png lies in no folder of a class")
other(
    "pictures too deep in folders",
    lambda: {**folders(), "class 0/a/b/c.png": WHOLE_PNG},
    "class 0/a/b/c.png lies too deep",
)
other(
    "a class-name file that names too few",
    lambda: {**folders(), "classes.csv": b"id,name\nclass 0,Stop\n"},
    "does not name the folders class 1, class 2",
)
other(
    "a class-name file that names two alike",
    lambda: {**folders(), "classes.csv": b"id,name\nclass 0,Stop\nclass 1,Stop\n"},
    "classes.csv, line 3: class 1 or 'Stop' stands there twice",
)
other(
    "a class-name file of one column",
    lambda: {**folders(), "classes.csv": b"name\nStop\n"},
    "classes.csv, line 2: expected identifier,name",
)
other(
    "a class of one picture",
    lambda: {**folders(), "class 9/only.png": encoded(pixels(40, 40, 3))},
    "every class has validation images (1 missing: 3)",
    reported=True,
)
other(
    "a sign in train and in test",
    lambda: {
        f"{split}/{c}/00001_0000{n}.png": encoded(
            np.random.default_rng([n, ord(c), len(split)]).integers(0, 256, (20, 20, 3), np.uint8)
        )
        for split in ("train", "test")
        for c in "ab"
        for n in range(3)
    },
    "no track, or group of images that look alike, stands in two splits",
    reported=True,
)
other(
    "a picture under two classes",
    lambda: {**folders(), "class 1/copy.png": folders()["class 0/picture 0.png"]},
    "equal pictures have one class",
    "class 1/copy.png",
    reported=True,
)
