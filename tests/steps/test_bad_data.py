"""What bad input gets: refused or reported, by name, in one line, with nothing half written.

The kinds stand in two tables, ``bad_images`` and ``bad_sets``. Preprocessing refuses what cannot be read at all;
validation reports what can be read and must not be trained on.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bad_images import IMAGES, WHOLE_JPEG, WHOLE_PNG, pixels
from bad_sets import CLASSES, KINDS
from layouts import write
from official import TRAIN, build, ppm

import preprocess
import validate
from trafficsigns.pictures import UNDECODABLE, decode


def outputs(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def said(capsys) -> str:
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line]
    assert len(lines) == 1, error
    assert "Traceback" not in error
    return lines[0]


@pytest.mark.parametrize("name", KINDS)
def test_bad_input_is_named_and_leaves_nothing_half_written(name, tmp_path, capsys):
    kind = KINDS[name]
    place, output = kind.make(tmp_path / "input"), tmp_path / "output"
    before = {"train/labels.json": b"of an earlier run"}
    write(output, before)
    code = preprocess.main(["--input-dir", str(place), "--output-dir", str(output)])
    if not kind.reported:
        assert code == 1
        line = said(capsys)
        assert outputs(output) == before
    else:
        assert code == 0
        capsys.readouterr()
        words = ["--manifest-dir", str(output / "manifest"), "--output-dir", str(tmp_path / "validation")]
        assert validate.main(words) == 1
        line = said(capsys)
        assert not (tmp_path / "validation" / "baseline.json").exists()
    for text in kind.said:
        assert text in line
    assert not list(output.glob("**/.partial"))


def place_of(number: int) -> str:
    """Where the bad images stand: one in each class."""
    return f"{TRAIN}/{number:05d}/00001_00000.ppm"


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """What is said of each image of a set that has all the bad ones, and what validation says of the set."""
    folder = tmp_path_factory.mktemp("images")
    files = build(CLASSES)
    for number, content in enumerate(IMAGES.values()):
        files.train[place_of(number)] = content()
    archive = files.zip(folder / "zips")
    assert preprocess.main(["--input-dir", str(archive), "--output-dir", str(folder / "out")]) == 0
    return pd.read_parquet(folder / "out" / "manifest" / "manifest-00000.parquet").set_index("file")["error"].dropna()


@pytest.mark.parametrize("name", IMAGES)
def test_a_bad_image_is_reported_with_a_reason(name, errors):
    assert len(errors[place_of(list(IMAGES).index(name))]) > len("ValueError: ")


def test_no_good_image_is_reported(errors):
    assert set(errors.index) == {place_of(number) for number in range(len(IMAGES))}


def test_one_bad_image_stops_the_run_by_its_name(tmp_path, capsys):
    files = build(CLASSES)
    files.train[place_of(5)] = b"a text"
    output = tmp_path / "out"
    assert preprocess.main(["--input-dir", str(files.zip(tmp_path / "zips")), "--output-dir", str(output)]) == 0
    capsys.readouterr()
    words = ["--manifest-dir", str(output / "manifest"), "--output-dir", str(tmp_path / "validation")]
    assert validate.main(words) == 1
    assert f"every file can be decoded (1 of 301 images): {place_of(5)} (row 4)" in said(capsys)


@pytest.mark.parametrize("whole", [WHOLE_PNG, WHOLE_JPEG, ppm(pixels(32, 32, 3))], ids=["PNG", "JPEG", "PPM"])
def test_random_damage_is_refused_in_known_ways_or_decodes(whole):
    """Whatever Pillow's readers raise must be one of the errors that become a row of the manifest."""
    rng = np.random.default_rng(8)
    refusals = 0
    for _ in range(600):
        content = bytearray(whole)
        for place in rng.integers(0, min(len(content), 400), rng.integers(1, 6)):
            content[place] = rng.integers(256)
        try:
            assert decode(bytes(content)).mode == "RGB"
        except UNDECODABLE:
            refusals += 1
    assert refusals > 0


def test_there_are_many_kinds():
    assert len(IMAGES) + len(KINDS) >= 100
