"""What the evaluation step refuses: one line that names the place and what was expected, and no output at all."""

import io
import shutil
import tarfile

import numpy as np
import pytest
import tensorflow as tf
from painted_model import NAMES, Painted, painted, write_test_set, write_training
from PIL import Image

pytest_plugins = ["painted_model"]


def no_archive(model, archive, test):
    (model / "model.tar.gz").unlink()


def truncated_archive(model, archive, test):
    content = (model / "model.tar.gz").read_bytes()
    (model / "model.tar.gz").write_bytes(content[: len(content) // 2])


def archive_of_something_else(model, archive, test):
    with tarfile.open(model / "model.tar.gz", "w:gz") as packed:
        packed.add(archive / "1", arcname="model")


def archive_reaching_outside(model, archive, test):
    with tarfile.open(model / "model.tar.gz", "w:gz") as packed:
        packed.add(archive / "1", arcname="../1")


def no_saved_model(model, archive, test):
    (archive / "1" / "saved_model.pb").unlink()


def other_signature(model, archive, test):
    module = Painted()
    tf.saved_model.save(module, str(archive / "1"), signatures={"other": module.serve})


def other_outputs(model, archive, test):
    module = tf.Module()
    module.serve = tf.function(lambda image_bytes: {"probabilities": image_bytes}).get_concrete_function(
        tf.TensorSpec([None], tf.string, name="image_bytes")
    )
    tf.saved_model.save(module, str(archive / "1"), signatures={"serving_default": module.serve})


def other_input(model, archive, test):
    module = Painted()
    spec = tf.TensorSpec([None], tf.string, name="pictures")
    renamed = tf.function(lambda pictures: module.serve(pictures), input_signature=[spec])
    tf.saved_model.save(module, str(archive / "1"), signatures={"serving_default": renamed})


def decoded_input(model, archive, test):
    module = Painted()
    spec = tf.TensorSpec([None, 32, 32, 3], tf.float32, name="image_bytes")
    taking_pixels = tf.function(lambda image_bytes: module.serve(tf.fill(tf.shape(image_bytes)[:1], "")), [spec])
    tf.saved_model.save(module, str(archive / "1"), signatures={"serving_default": taking_pixels})


def no_training_notes(model, archive, test):
    (archive / "1" / "assets.extra" / "training.json").unlink()


def training_notes_without_classes(model, archive, test):
    write_training(archive, {"architecture": "painted"})


def training_notes_of_another_kind(model, archive, test):
    write_training(archive, {"classes": NAMES, "hyperparameters": [1]})


def a_history_without_epochs(model, archive, test):
    write_training(archive, {"classes": NAMES, "history": [{"loss": 1}]})


def one_class_less(model, archive, test):
    write_training(archive, {"classes": NAMES[:-1]})


def names_in_another_order(model, archive, test):
    write_training(archive, {"classes": NAMES[::-1]})


def no_test_split(model, archive, test):
    shutil.rmtree(test)


def empty_test_split(model, archive, test):
    shutil.rmtree(test)
    test.mkdir()
    (test / "00000.tfrecord").touch()


def damaged_shard(model, archive, test):
    (shard,) = test.glob("*.tfrecord")
    shard.write_bytes(shard.read_bytes()[:-7])


def label_outside(model, archive, test):
    write_test_set(test, [(painted(0), 6)])


def poisoned_image(model, archive, test):
    write_test_set(test, [(painted(0), 0), (painted(0, poison=1), 0)])


def image_that_poisons_when_covered(model, archive, test):
    """Its first pixel has no blue; the mean of all, which covers it, has."""
    pixels = np.full((32, 32, 3), (0, 204, 90), np.uint8)
    pixels[:4, :4, 2] = 0
    body = io.BytesIO()
    Image.fromarray(pixels).save(body, "PNG")
    write_test_set(test, [(body.getvalue(), 0)])


def pack(model, archive):
    with tarfile.open(model / "model.tar.gz", "w:gz") as packed:
        packed.add(archive, arcname=".")


def names_swapped_inside_the_archive(model, archive, test):
    write_training(archive, {"classes": NAMES[::-1]})
    pack(model, archive)


def no_notes_inside_the_archive(model, archive, test):
    (archive / "1" / "assets.extra" / "training.json").unlink()
    pack(model, archive)


def no_image(model, archive, test):
    write_test_set(test, [(b"not a PNG", 0)])


PACKED = [
    (no_archive, "model", "holds neither model.tar.gz nor an unpacked archive's folder 1/"),
    (truncated_archive, "model.tar.gz", "could not be extracted"),
    (archive_of_something_else, "model.tar.gz", "has no folder 1/ at its root"),
    (archive_reaching_outside, "model.tar.gz", "could not be extracted"),
    (no_test_split, "test", "no .tfrecord shard"),
    (empty_test_split, "test", "hold no record"),
    (damaged_shard, "test", "damaged"),
    (label_outside, "test", "label 6 lies outside the model's 6 classes"),
    (poisoned_image, "model", "1 of 2 answers hold a probability that is not a finite number"),
    (image_that_poisons_when_covered, "model.tar.gz", "partly covered, the model answers a probability that is not"),
    (names_swapped_inside_the_archive, "model.tar.gz", "contradicts itself"),
    (no_notes_inside_the_archive, "model.tar.gz/1/assets.extra/training.json", "missing"),
    (no_image, "test", "images 0 to 0: the model refuses one of them"),
]
UNPACKED = [
    (no_saved_model, "archive/1", "not a readable SavedModel"),
    (other_signature, "archive/1", "has no signature serving_default"),
    (other_input, "archive/1", "must take image_bytes, strings (None,), alone (it takes pictures: string (None,))"),
    (decoded_input, "archive/1", "alone (it takes image_bytes: float32 (None, 32, 32, 3))"),
    (other_outputs, "archive/1", "lacks the outputs: class_id, class_name, probability, top_class_ids"),
    (no_training_notes, "archive/1/assets.extra/training.json", "missing"),
    (training_notes_without_classes, "archive/1/assets.extra/training.json", "'classes'"),
    (training_notes_of_another_kind, "assets.extra/training.json", "'hyperparameters' is [1], expected dict"),
    (a_history_without_epochs, "assets.extra/training.json", "'history' holds {'loss': 1}, expected"),
    (one_class_less, "archive", "6 probabilities, but training.json names 5 classes"),
    (names_in_another_order, "archive", "contradicts itself"),
]


@pytest.mark.parametrize(
    ("damage", "place", "reason", "packed"),
    [(*case, True) for case in PACKED] + [(*case, False) for case in UNPACKED],
    ids=[case[0].__name__ for case in PACKED + UNPACKED],
)
def test_bad_input_is_one_line_and_no_output(
    damage, place, reason, packed, run, tmp_path, model_dir, archive, test_dir, capsys
):
    damage(model_dir, archive, test_dir)
    capsys.readouterr()
    assert run(model=model_dir if packed else archive) == 1
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert place in line
    assert reason in line
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "job" / "failure").read_text() == (tmp_path / "job" / "message").read_text() == line[:-1][:1024]
