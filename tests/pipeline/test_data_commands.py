"""``signs data``: the real steps on small sets, and a download from a server on loopback."""

import hashlib
import json
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image
from typer.testing import CliRunner

from pipeline import datasets
from pipeline.cli import app
from pipeline.settings import DEFAULT_FILE, ROOT

sys.path.append(str(ROOT / "tests" / "steps"))
from layouts import folders, write
from official import TRAIN, build


@pytest.fixture
def settings(tmp_path):
    text = DEFAULT_FILE.read_text().replace('state = ".signs"', f'state = "{tmp_path / "state"}"')
    (tmp_path / "settings.toml").write_text(text)
    return tmp_path / "settings.toml"


@pytest.fixture
def signs(settings):
    def run(*words: str, code: int = 0) -> str:
        environment = {"SIGNS_SETTINGS": str(settings), "COLUMNS": "200"}
        done = CliRunner().invoke(app, ["data", *words], env=environment)
        assert done.exit_code == code, done.output
        return done.output

    return run


def test_describe_tells_what_a_set_holds_and_draws_it(signs, tmp_path):
    folder = build(classes=3, tracks=4, size=(20, 30)).zip(tmp_path / "zips")
    said = signs("describe", str(folder), "--output", str(tmp_path / "out"))
    assert "official: 27 images (3 test, 24 train), 12 tracks, 30 to 30 pixels wide and 20 to 20 high" in said
    assert "Speed limit 30" in said
    with Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        assert sheet.width > 1000
        # The frame of a region of interest is drawn in a colour that no paper has.
        assert (255, 0, 200) in {colour for _, colour in sheet.getcolors(10**6)}


def test_describe_speaks_json_and_counts_a_folder_by_its_classes(signs, tmp_path):
    folder = write(tmp_path / "signs", folders(classes=2, images=5))
    said = json.loads(signs("describe", str(folder), "--json"))
    assert (said["layout"], said["images"], said["tracks"], said["groups"]) == ("folders", 10, 0, 10)
    assert said["splits"] == {"undivided": 10}
    assert [each["name"] for each in said["classes"]] == ["class 0", "class 1"]
    assert said["sizes"] == {"width": None, "height": None}


def test_describe_names_what_is_not_listed(signs, tmp_path):
    files = build(classes=2)
    files.train[f"{TRAIN}/00001/00009_00000.ppm"] = b"whatever"
    assert f"1 files are not listed: {TRAIN}/00001/00009_00000.ppm" in signs(
        "describe", str(files.zip(tmp_path / "zips"))
    )


def test_describe_refuses_in_one_line(signs, tmp_path):
    assert f"signs: {tmp_path / 'absent'} is not a folder" in signs("describe", str(tmp_path / "absent"), code=1)


def test_validate_is_the_pipelines_own_suite(signs, tmp_path):
    good = build(43, tracks=5).zip(tmp_path / "good")
    said = signs("validate", str(good), "--images", "473", "--output", str(tmp_path / "out"))
    assert "473 images meet the expectations" in said
    assert (tmp_path / "out" / "docs" / "index.html").is_file()


def test_validate_lists_offenders_by_file_and_row_and_fails(signs, tmp_path):
    files = build(43)
    files.edit(f"{TRAIN}/00002/GT-00002.csv", ";31;30;2\r", ";99;30;2\r")
    said = signs("validate", str(files.zip(tmp_path / "bad")), "--images", "1000", code=1)
    assert "critical the region of interest lies inside the image (width above roi_right) (1 of 301 images)" in said
    assert f"    {TRAIN}/00002/00000_00000.ppm (row 2)" in said
    assert "critical the set has the declared 1000 images (301 images)" in said
    assert "301 images do not meet the expectations" in said


def test_validate_refuses_what_cannot_be_read(signs, tmp_path):
    folder = build(2).zip(tmp_path / "zips")
    (folder / "GTSRB_Final_Test_GT.zip").unlink()
    assert "missing GTSRB_Final_Test_GT.zip" in signs("validate", str(folder), code=1)


@pytest.fixture
def origin(tmp_path, monkeypatch):
    """The official address: a small set on a server on loopback."""
    folder = build(classes=2).zip(tmp_path / "origin")
    sums = {name: hashlib.md5((folder / name).read_bytes()).hexdigest() for name in datasets.OFFICIAL_FILES}
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setattr(datasets, "OFFICIAL_FILES", sums)
        monkeypatch.setattr(datasets, "OFFICIAL_ARCHIVE", f"http://127.0.0.1:{server.server_port}")
        yield folder
        server.shutdown()
        thread.join()


def test_fetch_brings_the_archives_and_shows_how_far_it_is(signs, origin, tmp_path):
    said = signs("fetch", str(tmp_path / "here"))
    assert "GTSRB_Final_Training_Images.zip" in said
    assert f"the official archives are in {tmp_path / 'here'}" in said
    for name in datasets.OFFICIAL_FILES:
        assert (tmp_path / "here" / name).read_bytes() == (origin / name).read_bytes()


def test_fetch_says_what_is_missing_and_what_to_do(signs, origin, tmp_path):
    (origin / "GTSRB_Final_Test_GT.zip").unlink()
    said = signs("fetch", str(tmp_path / "here"), code=1)
    assert "GTSRB_Final_Test_GT.zip: 404 File not found" in said
    assert "fetch it by hand and name its folder with --data" in said
