import numpy as np
import pytest
import tensorflow as tf

from trafficsigns import records
from trafficsigns.failures import StepError


def pixels(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_pixels_come_back_as_they_were_written_and_in_order(tmp_path):
    written = pixels(5)
    examples = [records.example(p.tobytes(), label, "3/00001", f"f{label}") for label, p in enumerate(written)]
    assert records.write(examples, tmp_path) == 5
    read = list(records.pixels(tmp_path).as_numpy_iterator())
    np.testing.assert_array_equal(np.stack([image for image, _ in read]), written)
    assert [label for _, label in read] == [0, 1, 2, 3, 4]


def test_encoded_images_come_back_with_label_and_name(tmp_path):
    records.write([records.example(b"\x89PNG...", 42, "", "Images/é.ppm")], tmp_path)
    assert list(records.encoded(tmp_path).as_numpy_iterator()) == [(b"\x89PNG...", 42, "Images/é.ppm".encode())]


def test_the_track_is_kept():
    parsed = tf.train.Example.FromString(records.example(b"x", 1, "14/00023", "n"))
    assert parsed.features.feature["track"].bytes_list.value[0] == b"14/00023"


def test_the_same_record_gives_the_same_bytes():
    assert len({records.example(b"x" * 10, 1, "t", "n") for _ in range(50)}) == 1


@pytest.mark.parametrize(("count", "sizes"), [(3, [3]), (4, [4]), (5, [3, 2]), (8, [4, 4]), (9, [3, 3, 3]), (0, [])])
def test_shards_are_even_and_hold_no_more_than_their_size(count, sizes, monkeypatch):
    monkeypatch.setattr(records, "SHARD_SIZE", 4)
    assert records.sizes(count) == sizes


def test_a_serializer_keeps_nothing_of_the_record_before():
    serializer = records.Serializer()
    serializer(b"long before", 7, "7/00001", "another", (0.1, 0.2, 0.3, 0.4))
    assert serializer(b"x", 1, "", "n") == records.example(b"x", 1, "", "n")


def test_the_region_of_interest_is_kept():
    parsed = tf.train.Example.FromString(records.example(b"x", 1, "", "n", (0.25, 0.5, 0.75, 1)))
    assert list(parsed.features.feature["roi"].float_list.value) == [0.25, 0.5, 0.75, 1]


def test_a_folder_without_shards_is_named(tmp_path):
    (tmp_path / "labels.json").write_text("[]")
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        records.shards(tmp_path)


def test_a_full_disk_is_one_clear_line(tmp_path):
    (tmp_path / "00000.tfrecord").symlink_to("/dev/full")
    with pytest.raises(StepError, match=r"00000\.tfrecord cannot be written"):
        records.write((records.example(b"x" * 10_000, 0, "", "") for _ in range(300)), tmp_path)


def test_an_error_of_the_source_is_not_taken_for_one_of_the_disk(tmp_path):
    def broken():
        yield records.example(b"x", 0, "", "")
        raise StepError("the archive is damaged")

    with pytest.raises(StepError, match="the archive is damaged"):
        records.write(broken(), tmp_path)
