import hashlib
import io
import json
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tensorflow as tf
from layouts import folders, write
from official import TEST, TRAIN, ppm
from PIL import Image

import describe
import preprocess
from trafficsigns import crew, images, instances, pictures, records, shards
from trafficsigns.sources import open_archive

SPLITS = ("train", "validation", "test")


def run(archive, output, *options: str) -> int:
    return preprocess.main(["--input-dir", str(archive), "--output-dir", str(output), *options])


def digests(folder) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def manifest(output) -> pd.DataFrame:
    parts = [pd.read_parquet(path) for path in sorted((output / "manifest").glob("*.parquet"))]
    return pd.concat(parts).sort_values("file", ignore_index=True)


def refused(capsys, archive, output, *options: str) -> str:
    """Require exit code 1, one line, and nothing written."""
    before = digests(output) if output.is_dir() else {}
    assert run(archive, output, *options) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert (digests(output) if output.is_dir() else {}) == before
    return error


@pytest.fixture(scope="module")
def prepared(synthetic, tmp_path_factory):
    output = tmp_path_factory.mktemp("prepared")
    assert run(synthetic, output) == 0
    return output


def test_the_outputs_are_the_documented_ones(prepared):
    assert set(digests(prepared)) == {
        "train/00000.tfrecord",
        "train/labels.json",
        "validation/00000.tfrecord",
        "test/00000.tfrecord",
        "manifest/manifest-00000.parquet",
        "manifest/dataset.json",
    }
    labels = json.loads((prepared / "train" / "labels.json").read_text())
    assert (len(labels), labels[14]) == (43, "Stop")


def test_the_same_archive_and_seed_give_the_same_bytes(prepared, synthetic, tmp_path):
    run(synthetic, tmp_path)
    assert digests(tmp_path) == digests(prepared)


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_does_not_show(workers, prepared, synthetic, tmp_path, monkeypatch):
    monkeypatch.setattr(crew, "_FEW", 10)
    # Small enough that tasks and shards are many, and that they do not end together.
    monkeypatch.setattr(crew, "CHUNK", 7)
    assert run(synthetic, tmp_path, "--workers", str(workers)) == 0
    assert digests(tmp_path) == digests(prepared)


def test_workers_end_with_a_process_that_is_killed(few, tmp_path):
    """Nothing may be left behind that waits for tasks for ever."""
    archive = few(classes=43, tracks=60, frames=2).zip(tmp_path / "zips")
    words = ["--input-dir", str(archive), "--output-dir", str(tmp_path / "out"), "--workers", "2"]
    running = subprocess.Popen([sys.executable, preprocess.__file__, *words], start_new_session=True)

    def workers() -> list[str]:
        listed = subprocess.run(["ps", "-ww", "-eo", "sess=,args="], capture_output=True, text=True, check=True).stdout
        members = [line.split(None, 1) for line in listed.splitlines()]
        return [args for session, args in members if session == str(running.pid) and "spawn_main" in args]

    deadline = time.monotonic() + 60
    while len(workers()) < 2:
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.kill()
    running.wait()
    while workers():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_few_images_get_one_process_and_many_get_what_there_is():
    assert [crew.size(images, 8) for images in (0, 1, 4096, 4097, 10**9)] == [1, 1, 1, 2, 8]


def instance(folder, archive, number: int, count: int, *options: str):
    """Run as one machine of several and return its output."""
    config = folder / f"resourceconfig-{number}.json"
    hosts = [f"algo-{each + 1}" for each in range(count)]
    config.write_text(json.dumps({"current_host": hosts[number], "hosts": hosts}))
    output = folder / f"output-{number}"
    assert run(archive, output, "--resource-config", str(config), *options) == 0
    return output


def together(outputs, target):
    """Put the machines' outputs into one folder, as S3 does; no file may have two writers but those that all write."""
    for output in outputs:
        for path in (each for each in output.rglob("*") if each.is_file()):
            copy = target / path.relative_to(output)
            copy.parent.mkdir(parents=True, exist_ok=True)
            assert not copy.exists() or (copy.suffix == ".json" and copy.read_bytes() == path.read_bytes())
            copy.write_bytes(path.read_bytes())
    return target


def record_names(output, split: str) -> list[str]:
    raw = tf.data.TFRecordDataset(records.shards(output / split)).as_numpy_iterator()
    return [tf.train.Example.FromString(each).features.feature["name"].bytes_list.value[0].decode() for each in raw]


def test_three_machines_tell_and_record_together_what_one_does(prepared, synthetic, tmp_path):
    outputs = [instance(tmp_path, synthetic, number, 3) for number in range(3)]
    pd.testing.assert_frame_equal(manifest(together(outputs, tmp_path / "all")), manifest(prepared))
    for split in SPLITS:
        alone = record_names(prepared, split)
        shares = [record_names(output, split) for output in outputs]
        assert sorted(name for share in shares for name in share) == sorted(alone)
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_machines_share_a_folder_by_what_each_is_given(synthetic, tmp_path):
    """A listed folder: every machine has the listing, and every third picture."""
    pictures = write(tmp_path / "pictures", folders(images=12, size=33))
    assert describe.main(["--input-dir", str(pictures), "--output-dir", str(tmp_path / "listing")]) == 0
    alone = tmp_path / "alone"
    assert run(pictures, alone) == 0
    names = sorted(path.relative_to(pictures) for path in pictures.rglob("*.png"))
    outputs = []
    for number in range(3):
        share = tmp_path / f"share-{number}"
        write(share, {str(name): (pictures / name).read_bytes() for name in names[number::3]})
        outputs.append(instance(tmp_path, tmp_path / "listing", number, 3, "--images-dir", str(share)))
    pd.testing.assert_frame_equal(manifest(together(outputs, tmp_path / "all")), manifest(alone))
    for split in SPLITS:
        assert sorted(record_names(tmp_path / "all", split)) == sorted(record_names(alone, split))


def test_several_machines_refuse_a_listing_without_groups(tmp_path, capsys):
    pictures = write(tmp_path / "pictures", folders())
    assert describe.main(["--input-dir", str(pictures), "--output-dir", str(tmp_path / "listing")]) == 0
    path = tmp_path / "listing" / "listing.parquet"
    pd.read_parquet(path).assign(group=None).to_parquet(path)
    config = tmp_path / "resourceconfig.json"
    config.write_text(json.dumps({"current_host": "algo-2", "hosts": ["algo-1", "algo-2"]}))
    options = ["--images-dir", str(pictures), "--resource-config", str(config)]
    assert "write the listing with steps/describe.py" in refused(
        capsys, tmp_path / "listing", tmp_path / "out", *options
    )


@pytest.mark.parametrize("content", ["", "[]", '{"hosts": ["a"]}', '{"hosts": ["a"], "current_host": "b"}'])
def test_a_resource_configuration_that_does_not_tell_is_refused(content, synthetic, tmp_path, capsys):
    (tmp_path / "config.json").write_text(content)
    error = refused(capsys, synthetic, tmp_path / "out", "--resource-config", str(tmp_path / "config.json"))
    assert "config.json does not tell which machine this is" in error


def test_hosts_are_counted_and_not_spelt(tmp_path):
    hosts = [f"algo-{number}" for number in range(1, 13)]
    (tmp_path / "config.json").write_text(json.dumps({"hosts": sorted(hosts), "current_host": "algo-10"}))
    assert instances.own(tmp_path / "config.json") == instances.Instance(9, 12)
    assert instances.own(tmp_path / "absent.json") == instances.Instance(0, 1)


def test_a_region_of_interest_is_scaled_with_the_pixels(few, tmp_path):
    """Original pixels, and the same set with pixels already resized: the annotations describe the originals."""
    files = few(classes=1, tracks=2, frames=1, size=(50, 80))
    run(files.zip(tmp_path / "original"), tmp_path / "a")
    for members in (files.train, files.test):
        for name in (each for each in members if each.endswith(".ppm")):
            with Image.open(io.BytesIO(members[name])) as image:
                members[name] = ppm(np.asarray(image.resize((32, 32))))
    run(files.zip(tmp_path / "resized"), tmp_path / "b")
    for output in ("a", "b"):
        raw = tf.data.TFRecordDataset(records.shards(tmp_path / output / "train")).as_numpy_iterator()
        for record in raw:
            roi = tf.train.Example.FromString(record).features.feature["roi"].float_list.value
            assert list(roi) == pytest.approx([1 / 80, 2 / 50, 79 / 80, 48 / 50])


def test_pictures_too_large_to_be_carried_come_out_the_same(few, tmp_path, monkeypatch):
    folder = few(classes=2, size=(40, 50)).zip(tmp_path / "zips")
    run(folder, tmp_path / "a")
    monkeypatch.setattr(pictures, "_CARRIED", 100)
    run(folder, tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_pictures_too_large_to_be_carried_are_read_one_at_a_time():
    class Counting:
        read_so_far = 0

        def read(self, file):
            self.read_so_far += 1
            return ppm(np.full((300, 300, 3), 7, np.uint8))

    archive, count = Counting(), 5
    (picture,) = pictures.look(archive, (["a"], False))
    assert picture.pixels == b""
    rows = pa.table({**dict.fromkeys(("class_id", "roi_left", "roi_top"), [0] * count),
                     **dict.fromkeys(("roi_right", "roi_bottom", "width", "height"), [300] * count),
                     **dict.fromkeys(("track", "file"), ["a"] * count)})  # fmt: skip
    for split in ("train", "test"):
        archive.read_so_far = 0
        stream = shards._records(archive, rows, [picture] * count, split)
        assert [(next(stream)[0] != b"", archive.read_so_far) for _ in range(count)] == [
            (True, number) for number in range(1, count + 1)
        ]


def test_another_seed_gives_another_split(prepared, synthetic, tmp_path):
    run(synthetic, tmp_path, "--seed", "8")
    first, second = (set(m.loc[m["split"] == "validation", "track"]) for m in (manifest(prepared), manifest(tmp_path)))
    assert first != second
    assert len(first) == len(second) == 43


def test_a_larger_fraction_validates_on_more_tracks(synthetic, tmp_path):
    run(synthetic, tmp_path, "--validation-fraction", "0.6")
    found = manifest(tmp_path)
    assert found.loc[found["split"] == "validation", "track"].nunique() == 2 * 43


def test_every_image_stands_in_the_shards_of_its_split_with_its_label(prepared, synthetic):
    expected = {a.file: a for a in open_archive(synthetic).annotations()}
    rows = manifest(prepared).set_index("file")
    assert set(rows.index) == set(expected)
    for split in SPLITS:
        raw = tf.data.TFRecordDataset(records.shards(prepared / split)).as_numpy_iterator()
        features = [tf.train.Example.FromString(record).features.feature for record in raw]
        names = [feature["name"].bytes_list.value[0].decode() for feature in features]
        assert sorted(names) == sorted(rows.index[rows["split"] == split])
        for name, feature in zip(names, features, strict=True):
            assert feature["label"].int64_list.value[0] == expected[name].class_id
            assert feature["track"].bytes_list.value[0].decode() == expected[name].track


def test_no_track_is_divided_and_each_class_keeps_one_for_training(prepared):
    found = manifest(prepared)
    tracks = found[found["track"] != ""].groupby("track")["split"].nunique()
    assert (tracks == 1).all()
    for split in SPLITS:
        assert set(found.loc[found["split"] == split, "class_id"]) == set(range(43))


def test_records_are_shuffled(prepared):
    labels = [label for _, label in records.pixels(prepared / "train").as_numpy_iterator()]
    assert labels != sorted(labels)


def test_test_images_are_the_originals_pixel_for_pixel(prepared, synthetic):
    archive = open_archive(synthetic)
    for encoded, _, name in records.encoded(prepared / "test").as_numpy_iterator():
        assert encoded.startswith(b"\x89PNG")
        with Image.open(io.BytesIO(archive.read(name.decode()))) as original:
            np.testing.assert_array_equal(images.decode(encoded).numpy(), np.asarray(original))


def test_original_sizes_are_resized_by_the_function_that_serves(prepared, synthetic):
    archive, seen = open_archive(synthetic), set()
    for record in tf.data.TFRecordDataset(records.shards(prepared / "train")).take(60).as_numpy_iterator():
        feature = tf.train.Example.FromString(record).features.feature
        with Image.open(io.BytesIO(archive.read(feature["name"].bytes_list.value[0].decode()))) as original:
            pixels = np.asarray(original)
        seen.add(pixels.shape)
        assert feature["image"].bytes_list.value[0] == images.resize(pixels).numpy().tobytes()
    assert len(seen) > 20


def test_images_of_the_networks_size_pass_unchanged(few, tmp_path):
    files = few(classes=2)
    run(files.zip(tmp_path / "zips"), tmp_path / "out")
    raw = tf.data.TFRecordDataset(records.shards(tmp_path / "out" / "train")).as_numpy_iterator()
    for record in raw:
        feature = tf.train.Example.FromString(record).features.feature
        content = files.train[feature["name"].bytes_list.value[0].decode()]
        assert content.endswith(feature["image"].bytes_list.value[0])


def test_an_unpacked_folder_gives_what_the_zips_give(few, tmp_path):
    files = few(classes=3, size=(20, 25))
    run(files.zip(tmp_path / "zips"), tmp_path / "a")
    run(files.unpack(tmp_path / "folder"), tmp_path / "b")
    assert digests(tmp_path / "a") == digests(tmp_path / "b") != {}


def test_the_manifest_describes_the_pixels(few, tmp_path):
    files = few(classes=1, tracks=2, frames=1, size=(16, 24))
    checkers = np.zeros((16, 24, 3), np.uint8)
    checkers[::2] = 255
    files.test[f"{TEST}/00000.ppm"] = ppm(checkers)
    red = np.full((16, 24, 3), (200, 0, 0), np.uint8)
    files.train[f"{TRAIN}/00000/00000_00000.ppm"] = files.train[f"{TRAIN}/00000/00001_00000.ppm"] = ppm(red)
    run(files.zip(tmp_path / "zips"), tmp_path / "out")
    test, first, second = (row for _, row in manifest(tmp_path / "out").iterrows())
    assert (test["pixel_width"], test["pixel_height"]) == (test["width"], test["height"]) == (24, 16)
    assert (test["roi_left"], test["roi_top"], test["roi_right"], test["roi_bottom"]) == (1, 2, 23, 14)
    assert (test["brightness"], test["contrast"]) == (0.5, 0.5)
    # Luma weighs red with 0.299; it is rounded to one of 256 levels.
    assert first["brightness"] == pytest.approx(0.299 * 200 / 255, abs=0.5 / 255)
    assert first["contrast"] == 0
    assert first["content"] == second["content"] == hashlib.sha256(red.tobytes()).hexdigest() != test["content"]


@pytest.mark.parametrize(
    "content",
    [b"", b"P6\n32 32\n255\n" + b"x" * 100, b"GIF89a", b"P6\n100000 100000\n255\nxx", b"\x89PNG\r\n\x1a\n"],
    ids=["empty", "truncated", "another format", "huge", "broken png"],
)
def test_an_image_that_cannot_be_decoded_is_reported_and_not_recorded(content, few, tmp_path):
    files = few(classes=1, tracks=3, frames=2)
    name = f"{TRAIN}/00000/00001_00000.ppm"
    files.train[name] = content
    folder = files.zip(tmp_path / "zips")
    for output in ("a", "b"):
        assert run(folder, tmp_path / output) == 0
    found = manifest(tmp_path / "a").set_index("file")
    assert list(found.index[found["error"].notna()]) == [name]
    names = [
        tf.train.Example.FromString(record).features.feature["name"].bytes_list.value[0].decode()
        for split in SPLITS
        for record in tf.data.TFRecordDataset(records.shards(tmp_path / "a" / split)).as_numpy_iterator()
    ]
    assert sorted(names) == sorted(set(found.index) - {name})
    # Pillow's words for it would hold an address in memory.
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_outputs_of_an_earlier_run_are_replaced_whole(few, tmp_path, monkeypatch):
    monkeypatch.setattr(records, "SHARD_SIZE", 4)
    run(few(classes=4).zip(tmp_path / "large"), tmp_path / "out")
    small = few(classes=2).zip(tmp_path / "small")
    run(small, tmp_path / "out")
    run(small, tmp_path / "fresh")
    assert digests(tmp_path / "out") == digests(tmp_path / "fresh")


@pytest.mark.parametrize("earlier", [False, True], ids=["into nothing", "over an earlier run"])
def test_a_run_that_breaks_off_leaves_everything_as_it_was(earlier, few, tmp_path, capsys):
    output = tmp_path / "out"
    if earlier:
        run(few(classes=2).zip(tmp_path / "whole"), output)
        assert len(digests(output)) == 6
    folder = few(classes=3).zip(tmp_path / "zips")
    # A test image: when it is found damaged, the shards of both other splits are written.
    path = folder / "GTSRB_Final_Test_Images.zip"
    content = bytearray(path.read_bytes())
    start = content.index(b"00002.ppm") + len("00002.ppm")
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    error = refused(capsys, folder, output)
    assert f"{TEST}/00002.ppm cannot be read" in error


@pytest.mark.parametrize("fraction", ["0", "1", "-0.2", "1.5", "nan"])
def test_a_fraction_outside_its_bounds_is_refused(fraction, synthetic, tmp_path, capsys):
    error = refused(capsys, synthetic, tmp_path / "out", f"--validation-fraction={fraction}")
    assert error.startswith(f"--validation-fraction is {float(fraction)}: expected a number between 0 and 1")


def test_a_negative_seed_is_refused(synthetic, tmp_path, capsys):
    assert refused(capsys, synthetic, tmp_path / "out", "--seed=-1").startswith("--seed is -1")


def test_an_archive_that_is_not_there_is_refused(tmp_path, capsys):
    assert str(tmp_path / "absent") in refused(capsys, tmp_path / "absent", tmp_path / "out")


def test_a_broken_table_is_refused(few, tmp_path, capsys):
    files = few(classes=1)
    files.edit("GT-final_test.csv", "00000.ppm;32", "00000.ppm;?")
    error = refused(capsys, files.zip(tmp_path / "zips"), tmp_path / "out")
    assert "GT-final_test.csv, line 2" in error


def test_an_output_that_cannot_be_written_is_named(synthetic, tmp_path, capsys):
    (tmp_path / "out").write_text("a file stands where the folder should")
    assert str(tmp_path / "out") in refused(capsys, synthetic, tmp_path / "out")


def test_labels_out_of_range_are_left_to_validation(few, tmp_path):
    files = few(classes=2)
    files.edit(f"{TRAIN}/00001/GT-00001.csv", ";1\r", ";99\r")
    assert run(files.zip(tmp_path / "zips"), tmp_path / "out") == 0
    assert set(manifest(tmp_path / "out")["class_id"]) == {0, 1, 99}


def test_the_real_set_keeps_its_pixels_and_its_known_duplicates(real, tmp_path):
    assert run(real, tmp_path) == 0
    found = manifest(tmp_path)
    assert found["error"].isna().all()
    assert set(found["pixel_width"]) == set(found["pixel_height"]) == {32}
    assert found["width"].max() > 100
    track = set(found.loc[found["track"] == "14/00023", "content"])
    assert found.loc[(found["split"] == "test") & found["content"].isin(track), "class_id"].tolist() == [14] * 2
    archive = open_archive(real)
    for encoded, _, name in records.encoded(tmp_path / "test").take(100).as_numpy_iterator():
        assert archive.read(name.decode()).endswith(images.decode(encoded).numpy().tobytes())
