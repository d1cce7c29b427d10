import ast
import base64
import io
import json
import random
import re
import sys
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from serving import inference
from trafficsigns import images

# The fields that AWS's image passes since 2.20.
Context = namedtuple(
    "Context",
    "model_name, model_version, method, rest_uri, grpc_port, channel, custom_attributes, request_content_type, "
    "accept_header, content_length, timeout",
)


def context(content_type: str | None) -> Context:
    return Context("model", "1", "predict", "", "", None, None, content_type, "*/*", None, None)


def picture(height: int = 5, width: int = 7) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(pixels: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def instances(body: bytes, content_type: str | None) -> list[bytes]:
    """Send a body through the handler and return the pictures that TensorFlow Serving would be given."""
    request = json.loads(inference.input_handler(io.BytesIO(body), context(content_type)))
    assert set(request) == {"instances"}
    assert all(set(instance) == {"b64"} for instance in request["instances"])
    return [base64.b64decode(instance["b64"], validate=True) for instance in request["instances"]]


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        return np.asarray(image)


def refusal(body: bytes, content_type: str | None, status: str = "400 Bad Request") -> str:
    with pytest.raises(inference.HTTPError) as caught:
        inference.input_handler(io.BytesIO(body), context(content_type))
    assert caught.value.status == status
    assert str(caught.value) == caught.value.description
    return str(caught.value.description)


def json_body(*pictures) -> bytes:
    return json.dumps({"instances": pictures}).encode()


def test_the_handler_needs_the_standard_library_only():
    tree = ast.parse(Path(inference.__file__).read_text())
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - set(sys.stdlib_module_names) == {"falcon"}
    guarded = [node for node in tree.body if isinstance(node, ast.Try)]
    assert [node.body[0].module for node in guarded] == ["falcon"]


@pytest.mark.parametrize(
    "content_type",
    [
        "image/png",
        "image/jpeg",
        "image/jpg",
        "application/x-image",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "IMAGE/PNG; charset=utf-8",
        "",
        None,
    ],
)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_an_encoded_picture_passes_untouched(form, content_type):
    body = encoded(picture(), form)
    assert instances(body, content_type) == [body]


@pytest.mark.parametrize("content_type", ["image/png", "application/octet-stream", None])
@pytest.mark.parametrize(
    "body", [b"", b"P6\n1 1\n255\nabc", b"<html>", b"\x89PNG"], ids=["empty", "ppm", "html", "cut"]
)
def test_a_body_that_is_no_picture_is_refused_with_its_size(body, content_type):
    assert f"({len(body)} bytes) is neither a PNG nor a JPEG" in refusal(body, content_type)


@pytest.mark.parametrize(
    "content_type", ["text/plain", "image/webp", "text/html; charset=utf-8", "image/*", "application/"]
)
def test_another_type_is_refused_with_what_is_served(content_type):
    text = refusal(encoded(picture()), content_type, "415 Unsupported Media Type")
    assert text.startswith(content_type.partition(";")[0])
    assert "image/png, image/jpeg, application/x-npy, text/csv, application/json or application/jsonlines" in text


@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (48, 31), (1, 300)])
def test_an_array_becomes_a_picture_of_the_same_pixels(shape):
    array = picture(*shape)
    (content,) = instances(npy(array), "application/x-npy")
    np.testing.assert_array_equal(pixels(content), array)
    np.testing.assert_array_equal(images.decode(content).numpy(), array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_each_version_of_the_npy_format_is_read(version):
    array = picture()
    (content,) = instances(npy(array, version), "application/x-npy; charset=binary")
    np.testing.assert_array_equal(pixels(content), array)


def test_several_arrays_become_as_many_pictures_in_order():
    arrays = np.stack([picture(), 255 - picture(), picture() // 2])
    contents = instances(npy(arrays), "application/x-npy")
    np.testing.assert_array_equal(np.stack([pixels(content) for content in contents]), arrays)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.asfortranarray(picture()), "in Fortran order"),
        (picture().astype(np.float32) / 255, "got <f4 [5, 7, 3] in C order"),
        (picture().astype(np.int64), "got <i8"),
        (picture()[:, :, 0], "[5, 7]"),
        (picture()[:, :, :2], "[5, 7, 2]"),
        (np.zeros((2, 2, 5, 7, 3), np.uint8), "[2, 2, 5, 7, 3]"),
        (np.zeros((0, 5, 7, 3), np.uint8), "[0, 5, 7, 3]"),
        (np.zeros((5, 0, 3), np.uint8), "[5, 0, 3]"),
    ],
)
def test_an_array_of_another_kind_is_refused_with_what_it_is(array, reason):
    text = refusal(npy(array), "application/x-npy")
    assert text.startswith("expected |u1 [height, width, 3] or [n, height, width, 3] in C order, got")
    assert reason in text


def header(text: str, pixels: bytes = b"abc") -> bytes:
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode() + pixels


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00\xff\xff{",
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}",
        npy(picture())[:-1],
        npy(picture()) + b"x",
        encoded(picture()),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, -1, 3)}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': 3}"),
        header("{'descr': '|u1', 'fortran_order': False, 'shape': ('1', '1', 3)}"),
        header("{'descr': '|u1', 'shape': (1, 1, 3)}"),
        header("[1, 2]"),
        header("__import__('os').abort()"),
        header("(" * 5000),
        header("-" * 50000 + "1"),
    ],
    ids=range(15),
)
def test_a_damaged_or_hostile_npy_file_is_refused(body):
    refusal(body, "application/x-npy")


def test_json_takes_encoded_pictures_and_lists_together():
    png, jpeg, array = encoded(picture()), encoded(picture(9, 9), "JPEG"), picture(3, 4)
    body = json_body(*({"b64": base64.b64encode(content).decode()} for content in (png, jpeg)), array.tolist())
    first, second, third = instances(body, "application/json; charset=utf-8")
    assert (first, second) == (png, jpeg)
    np.testing.assert_array_equal(pixels(third), array)


@pytest.mark.parametrize(
    ("instance", "reason"),
    [
        ((picture() / 255).tolist(), "whole numbers 0 to 255"),
        ([[[0, 0, 256]]], "whole numbers 0 to 255"),
        ([[[0, 0, -1]]], "whole numbers 0 to 255"),
        ([[[0, 0]]], "three values"),
        ([[[0, 0, 0]], [[0, 0, 0], [0, 0, 0]]], "differ in length"),
        ([[[0, 0, 0], [0, 0, 0]], [[0, 0, 0]]], "differ in length"),
        ([], "neither"),
        ([[]], "empty"),
        ([[], [[0, 0, 0]]], "empty"),
        ([[10**12]], "neither"),
        ([[0, 0, 0]], "neither"),
        (7, "neither"),
        (None, "neither"),
        ("iVBORw0KGgo=", "neither"),
        ({"image": "iVBORw0KGgo="}, "neither"),
        ({"b64": 7}, "neither"),
        ({"b64": "not base64!"}, "not base64"),
        ({"b64": "é"}, "not base64"),
        ({"b64": ""}, "0 bytes"),
        ({"b64": base64.b64encode(b"P6 1 1 255 abc").decode()}, "neither a PNG nor a JPEG"),
    ],
    ids=range(20),
)
def test_an_instance_that_is_no_picture_is_refused(instance, reason):
    good = {"b64": base64.b64encode(encoded(picture())).decode()}
    assert reason in refusal(json_body(good, instance), "application/json")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"{}",
        b'{"instances": []}',
        b'{"instances": {}}',
        b'{"instances": null}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
    ids=range(11),
)
def test_a_body_that_is_not_the_agreed_json_is_refused(body):
    assert re.search("instances|not JSON|1 to 2048 pictures", refusal(body, "application/json"))


def test_a_body_that_comes_as_text_is_taken_too():
    body = json_body(picture().tolist()).decode()
    request = inference.input_handler(io.StringIO(body), context("application/json"))
    assert len(json.loads(request)["instances"]) == 1


def answer(status: int, content: bytes, reason: str = "") -> SimpleNamespace:
    """What an output handler is given: the parts of requests.Response that it may use."""
    return SimpleNamespace(status_code=status, content=content, reason=reason)


@pytest.mark.parametrize("content_type", ["text/csv", "application/jsonlines", "application/x-npy", "application/json"])
def test_what_holds_very_many_pictures_is_refused_before_they_are_made(content_type, monkeypatch):
    many = {
        "text/csv": b"0,0,0\n" * 400_000,
        "application/jsonlines": b"[[[0,0,0]]]\n" * 400_000,
        "application/x-npy": npy(np.zeros((400_000, 1, 1, 3), np.uint8)),
        "application/json": json_body(*[[[[0, 0, 0]]]] * 400_000),
    }
    monkeypatch.setattr(inference, "_png", lambda *_: pytest.fail("a picture was made"))
    assert refusal(many[content_type], content_type) == "expected 1 to 2048 pictures in one request, got 400000"


def mutated(body: bytes, chance: random.Random) -> bytes:
    """Cut, doubled, or with some bytes changed: what a bad line or a bad client makes of a request."""
    start, end = sorted(chance.choices(range(len(body) + 1), k=2))
    changed = bytearray(body)
    for _ in range(chance.randint(1, 8)):
        changed[chance.randrange(len(changed))] = chance.randrange(256)
    return chance.choice([body[:end], body[start:], body[:end] + body[start:], bytes(changed)])


@pytest.mark.parametrize(
    "content_type",
    ["image/png", "application/x-npy", "text/csv", "application/json", "application/jsonlines", "", "image/jpeg"],
)
def test_whatever_a_body_is_it_is_taken_or_refused_with_400(content_type):
    array = picture(6, 6)
    bodies = {
        "image/png": encoded(array),
        "image/jpeg": encoded(array, "JPEG"),
        "application/x-npy": npy(array),
        "text/csv": ",".join(map(str, array.ravel())).encode(),
        "application/json": json_body(array.tolist(), {"b64": base64.b64encode(encoded(array)).decode()}),
        "application/jsonlines": json.dumps(array.tolist()).encode() + b"\n",
        "": json_body(array.tolist()),
    }
    chance, refused = random.Random(content_type), 0
    for _ in range(400):
        try:
            json.loads(
                inference.input_handler(io.BytesIO(mutated(bodies[content_type], chance)), context(content_type))
            )
        except inference.HTTPError as error:
            assert error.status == "400 Bad Request"
            refused += 1
    assert refused > 20


def test_pixels_count_together():
    one = encoded(np.zeros((4096, 4096, 3), np.uint8))
    body = [{"b64": base64.b64encode(one).decode()}] * 2
    assert len(instances(json_body(*body), "application/json")) == 2
    assert "50331648 pixels together" in refusal(json_body(*body, body[0]), "application/json")


@pytest.mark.parametrize(("quality", "progressive"), [(30, False), (95, False), (80, True)])
def test_a_jpegs_size_is_found_wherever_its_header_lies(quality, progressive):
    buffer = io.BytesIO()
    Image.fromarray(picture(23, 31)).save(
        buffer, "JPEG", quality=quality, progressive=progressive, comment=b"x" * 3000, exif=b"Exif\0\0" + b"y" * 5000
    )
    assert inference._jpeg_pixels(buffer.getvalue()) == 23 * 31


@pytest.mark.parametrize("cut", range(2, 40))
def test_a_jpeg_that_ends_early_has_no_size_and_does_no_harm(cut):
    assert inference._jpeg_pixels(encoded(picture(23, 31), "JPEG")[:cut]) == 0


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/*", "application/json"),
        ("text/csv", "text/csv"),
        ("TEXT/CSV; charset=utf-8", "text/csv"),
        ("image/webp, application/x-npy;q=0.2, text/csv;q=0.3", "text/csv"),
        ("text/csv;q=nonsense, application/jsonlines;q=0.01", "application/jsonlines"),
        ("application/json;q=0, text/*", "text/csv"),
    ],
)
def test_the_answer_that_a_client_likes_best(accept, answered):
    assert inference._answer_type(accept) == answered


@pytest.mark.parametrize("accept", ["image/png", "text/csv;q=0", "nonsense", ";", "," * 1000])
def test_no_answer_that_a_client_accepts_is_a_406_before_the_body_is_read(accept):
    asked = context("image/png")._replace(accept_header=accept)
    with pytest.raises(inference.HTTPError) as caught:
        inference.input_handler(None, asked)
    assert caught.value.status == "406 Not Acceptable"


@pytest.mark.parametrize("shape", [(1, 1), (3, 43), (2048, 7)])
def test_the_npy_answer_is_numpys_own_format(shape):
    rows = np.random.default_rng(3).random(shape, dtype=np.float32)
    written = inference._npy(rows.tolist())
    assert written == npy(rows)


def test_the_answer_names_the_best_class_and_ranks_five():
    row = {
        "class_id": 14,
        "class_name": "Stop",
        "probability": 0.9,
        "top_class_ids": [14, 17, 13, 1, 2],
        "top_class_names": ["Stop", "No entry", "Give way", "Speed limit 30", "Speed limit 50"],
        "top_probabilities": [0.9, 0.05, 0.03, 0.01, 0.01],
        "probabilities": [0.0] * 43,
    }
    body, content_type = inference.output_handler(
        answer(200, json.dumps({"predictions": [row, row]}).encode()), context("image/png")
    )
    assert content_type == "application/json"
    first, second = json.loads(body)["predictions"]
    assert first == second
    assert {key: first[key] for key in ("class_id", "class_name", "probability")} == {
        "class_id": 14,
        "class_name": "Stop",
        "probability": 0.9,
    }
    assert first["top"][1] == {"class_id": 17, "class_name": "No entry", "probability": 0.05}
    assert [entry["class_id"] for entry in first["top"]] == row["top_class_ids"]
    assert set(first) == {"class_id", "class_name", "probability", "top"}


@pytest.mark.parametrize(("status", "reason"), [(400, "Bad Request"), (503, ""), (500, "Internal Server Error")])
def test_a_refusal_of_the_model_keeps_its_status_and_words(status, reason):
    with pytest.raises(inference.HTTPError) as caught:
        inference.output_handler(answer(status, b'{"error": "Invalid PNG"}\xff', reason), context("image/png"))
    assert caught.value.status == f"{status} {reason or 'Error'}"
    assert "Invalid PNG" in caught.value.description


def test_the_graph_reads_what_the_handler_writes():
    array = picture(40, 52)
    (content,) = instances(json_body(array.tolist()), "application/json")
    np.testing.assert_array_equal(
        images.resize(images.decode(tf.constant(content))).numpy(), images.resize(array).numpy()
    )
