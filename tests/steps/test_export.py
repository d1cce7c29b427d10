import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from pipeline.settings import ROOT
from trafficsigns import calibration, export, images, lenet, training
from trafficsigns.failures import StepError
from trafficsigns.presets import PRESETS

NAMES = [f"sign {index}" for index in range(7)]
TEMPERATURE = 0.1
"""Below those of trained networks, 0.14 to 0.46; what is divided by it is ten times as far from exact."""
TOLERANCE = 2e-5
"""Of probabilities: three times what was seen of logits near 10, in which float32's last digit is a millionth."""
OF_LOGARITHMS = 2e-4
"""The same error, undiminished by how sure an answer is: a temperature that differs by a thousandth would be seen."""


@pytest.fixture(scope="module", params=["standard", "best", "lenet5"])
def network(request):
    """One network, a committee of them, and one that standardises and nothing more."""
    keras.utils.set_random_seed(3)
    network = lenet.build(PRESETS[request.param], len(NAMES))
    # As after training: fresh, its transformer changes nothing and its normalisations divide by one.
    random = np.random.default_rng(8)
    for weight in network.weights:
        moved = np.asarray(weight) + random.normal(scale=0.05, size=weight.shape)
        weight.assign(np.abs(moved) if weight.path.endswith("moving_variance") else moved)
    return network


@pytest.fixture(scope="module")
def handler(tmp_path_factory):
    path = tmp_path_factory.mktemp("code") / "inference.py"
    path.write_text("# the endpoint's handler\n")
    return path


@pytest.fixture(scope="module")
def archive(network, handler, tmp_path_factory):
    directory = tmp_path_factory.mktemp("model")
    export.write_archive(export.Classifier(network, NAMES, TEMPERATURE), {"seed": 5}, handler, directory)
    return directory


@pytest.fixture(scope="module")
def serve(archive):
    loaded = tf.saved_model.load(str(archive / "1"))
    signature = loaded.signatures["serving_default"]

    def call(*encoded: bytes):
        # Naming the owner keeps it alive: a signature alone does not hold its variables.
        assert loaded is not None
        return {name: value.numpy() for name, value in signature(image_bytes=tf.constant(encoded)).items()}

    return call


def photographs(count: int):
    return np.random.default_rng(2).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def png(pixels) -> bytes:
    return tf.io.encode_png(pixels).numpy()


def test_the_archive_holds_what_serving_needs_and_nothing_half_written(archive):
    files = {str(path.relative_to(archive)) for path in archive.rglob("*") if path.is_file()}
    assert files == {
        "1/saved_model.pb",
        "1/fingerprint.pb",
        "1/variables/variables.index",
        "1/variables/variables.data-00000-of-00001",
        "1/assets.extra/model.tflite",
        "1/assets.extra/training.json",
        "1/assets.extra/tf_serving_warmup_requests",
        "code/inference.py",
    }
    assert json.loads((archive / "1/assets.extra/training.json").read_text()) == {"seed": 5}


def test_the_signature_has_exactly_the_agreed_inputs_and_outputs(archive):
    signature = tf.saved_model.load(str(archive / "1")).signatures["serving_default"]
    assert signature.structured_input_signature[1] == {
        "image_bytes": tf.TensorSpec([None], tf.string, name="image_bytes")
    }
    assert {name: (spec.dtype, tuple(spec.shape)) for name, spec in signature.structured_outputs.items()} == {
        "probabilities": (tf.float32, (None, 7)),
        "class_id": (tf.int64, (None,)),
        "class_name": (tf.string, (None,)),
        "probability": (tf.float32, (None,)),
        "top_class_ids": (tf.int64, (None, 5)),
        "top_class_names": (tf.string, (None, 5)),
        "top_probabilities": (tf.float32, (None, 5)),
    }


def test_training_found_no_temperature_so_low_as_the_one_that_is_tested_here():
    rows = json.loads((ROOT / "benchmarks" / "results" / "presets.json").read_text())
    assert min(row["temperature"] for row in rows if "temperature" in row) > TEMPERATURE


def test_the_served_probabilities_are_those_of_the_network_at_its_temperature(serve, network):
    pixels = photographs(6)
    answer = serve(*[png(image) for image in pixels])
    logits = np.asarray(network(pixels), dtype=np.float64) / TEMPERATURE
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert np.abs(answer["probabilities"] - expected).max() < TOLERANCE
    # Where answers are sure, nearly all is hidden that logits differ by; logarithms show it.
    told = answer["probabilities"] > 1e-30
    assert np.mean(told) > 0.3
    assert np.abs(np.log(answer["probabilities"][told]) - np.log(expected[told])).max() < OF_LOGARITHMS


def test_bytes_in_give_what_preprocessing_and_the_training_network_give(serve, network):
    """Skew between training and serving would show here: another decoder, resize, normalisation or temperature."""
    random = np.random.default_rng(6)
    large = [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((71, 45), (32, 32), (15, 250))]
    encoded = [png(large[0]), png(large[1]), tf.io.encode_jpeg(large[2]).numpy()]
    pixels = tf.stack([images.resize(images.decode(tf.constant(each))) for each in encoded])
    logits = training.logits(training.answering(network), pixels.numpy()) / TEMPERATURE
    assert np.abs(serve(*encoded)["probabilities"] - tf.nn.softmax(logits)).max() < TOLERANCE


def test_a_graph_session_like_that_of_tensorflow_serving_answers_the_same(archive, serve):
    encoded = [png(image) for image in photographs(3)]
    session = tf.compat.v1.Session(graph=tf.Graph())
    with session, session.graph.as_default():
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(archive / "1")).signature_def[
            "serving_default"
        ]
        outputs = {name: info.name for name, info in signature.outputs.items()}
        answer = session.run(outputs, {signature.inputs["image_bytes"].name: encoded})
        with pytest.raises(tf.errors.InvalidArgumentError, match="image_bytes is empty"):
            session.run(outputs, {signature.inputs["image_bytes"].name: []})
    expected = serve(*encoded)
    np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], atol=TOLERANCE)
    np.testing.assert_array_equal(answer["top_class_names"], expected["top_class_names"])


def test_names_ids_and_ranks_tell_the_same_story(serve):
    answer = serve(*[png(image) for image in photographs(6)])
    # Of what is equally improbable, below the smallest number even, top_k names the lower identifier first.
    order = np.argsort(-answer["probabilities"], axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(answer["top_class_ids"], order)
    np.testing.assert_array_equal(answer["class_id"], order[:, 0])
    np.testing.assert_array_equal(
        answer["top_probabilities"], np.take_along_axis(answer["probabilities"], order, axis=1)
    )
    np.testing.assert_array_equal(answer["probability"], answer["top_probabilities"][:, 0])
    assert [[NAMES[index].encode() for index in row] for row in order] == answer["top_class_names"].tolist()
    assert answer["class_name"].tolist() == answer["top_class_names"][:, 0].tolist()


def test_an_image_of_any_size_and_an_answer_apart_from_its_neighbours(serve):
    large = png(np.random.default_rng(4).integers(0, 256, (71, 45, 3), dtype=np.uint8))
    together = serve(large, png(photographs(1)[0]))["probabilities"]
    np.testing.assert_allclose(serve(large)["probabilities"][0], together[0], atol=TOLERANCE)


@pytest.mark.parametrize(
    ("body", "reason"),
    [(b"no picture", "Unknown image file format"), (b"", "empty"), (png(photographs(1)[0])[:60], "PNG")],
)
def test_bytes_that_are_no_image_fail_the_call_and_say_why(serve, body, reason):
    with pytest.raises(tf.errors.InvalidArgumentError, match=reason):
        serve(png(photographs(1)[0]), body)


def test_an_empty_request_says_that_it_is_empty(archive):
    signature = tf.saved_model.load(str(archive / "1")).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="image_bytes is empty"):
        signature(image_bytes=tf.zeros((0,), tf.string))


def test_the_warm_up_request_carries_an_image_that_the_model_answers(archive, serve):
    (record,) = tf.data.TFRecordDataset(str(archive / "1/assets.extra/tf_serving_warmup_requests"))
    fields = record.numpy()
    # PredictionLog.predict_log (6) holds PredictLog.request (1), which holds the entry inputs (2) of key 1, value 2.
    for number in (6, 1, 2):
        fields = dict(unpack(fields))[number]
    entry = dict(unpack(fields))
    assert entry[1] == b"image_bytes"
    tensor = tf.make_ndarray(type(tf.make_tensor_proto(0)).FromString(entry[2]))
    assert serve(*tensor)["class_id"].shape == (1,)


def unpack(message: bytes):
    """Yield the length-delimited fields of a protocol buffer, by the encoding's specification."""
    position = 0
    while position < len(message):
        number, wire_type = divmod(message[position], 8)
        assert wire_type == 2
        position += 1
        length = shift = 0
        while True:
            byte = message[position]
            position += 1
            length |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                break
        assert position + length <= len(message)
        yield number, message[position : position + length]
        position += length


def test_writing_again_replaces_the_model(network, handler, tmp_path):
    for seed in (1, 2):
        export.write_archive(export.Classifier(network, NAMES, 1.0), {"seed": seed}, handler, tmp_path)
    assert json.loads((tmp_path / "1/assets.extra/training.json").read_text()) == {"seed": 2}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "code"]


def test_a_missing_handler_is_named_before_anything_is_written(network, tmp_path):
    with pytest.raises(StepError, match=r"absent\.py"):
        export.write_archive(export.Classifier(network, NAMES, 1.0), {}, tmp_path / "absent.py", tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_the_temperature_undoes_overconfidence_and_underconfidence():
    random = np.random.default_rng(5)
    logits = random.normal(scale=2.0, size=(20_000, 5))
    # Gumbel noise draws labels from softmax(logits), for which these logits are calibrated by construction.
    labels = np.argmax(logits + random.gumbel(size=logits.shape), axis=1)
    for factor in (0.3, 1.0, 4.0):
        fitted = calibration.fit_temperature((logits * factor).astype(np.float32), labels)
        assert fitted == pytest.approx(factor, rel=0.05)


def test_a_faultless_validation_set_still_gives_a_usable_temperature():
    assert 0.01 < calibration.fit_temperature(np.eye(4, dtype=np.float32) * 9.0, np.arange(4)) < 1.0
