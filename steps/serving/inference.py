"""The endpoint's handler: turns a client's picture into TensorFlow Serving's JSON, and the answer into a short one.

AWS's TensorFlow image loads this file from ``code/inference.py`` of the model archive and calls ``input_handler`` and
``output_handler`` around TensorFlow Serving; the local model server does the same with the same file. The image holds
neither TensorFlow nor Pillow, so only the standard library is used, and decoding, resizing and the network itself lie
in the SavedModel's graph. Source: https://github.com/aws/sagemaker-tensorflow-serving-container (pre/post-processing).

======================  ==========================================================================================
Content-Type            body
======================  ==========================================================================================
image/png, image/jpeg   one encoded picture; so are application/x-image, application/octet-stream and no type at all
application/x-npy       one uint8 array [height, width, 3], or several [n, height, width, 3]
application/json        ``{"instances": [...]}``, each a picture: ``{"b64": "..."}`` or nested lists [height][width][3]
======================  ==========================================================================================

The answer is JSON: ``{"predictions": [{"class_id", "class_name", "probability", "top": [{...} x 5]}, ...]}``.
"""

from __future__ import annotations

import ast
import base64
import json
import struct
import zlib
from typing import Any

try:
    # AWS's image answers through falcon, which turns this exception into a response with the same status.
    from falcon import HTTPError  # type: ignore[import-not-found]  # only in that image
except ImportError:

    class HTTPError(Exception):  # type: ignore[no-redef]  # stands in for it elsewhere
        """A refusal with an HTTP status such as ``415 Unsupported Media Type``."""

        def __init__(self, status: str, *, title: str = "", description: str = "") -> None:
            super().__init__(description)
            self.status, self.title, self.description = status, title, description


MAGIC = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
NPY_MAGIC = b"\x93NUMPY"
PICTURE_TYPES = ("image/png", "image/jpeg", "image/jpg", "application/x-image", "application/octet-stream")
SERVED = "image/png, image/jpeg, application/x-npy or application/json"
# What curl and some clients say when nobody told them what they send.
UNTOLD_TYPES = ("", "application/x-www-form-urlencoded")


def input_handler(data: Any, context: Any) -> str:
    """Turn a request's body into the JSON that TensorFlow Serving's REST interface takes.

    ``data`` is a stream; ``context`` carries ``request_content_type``. Raises ``HTTPError`` 415 for a type that is not
    in the table above, and 400 for a body that is not what its type says.
    """
    body = data.read()
    if isinstance(body, str):
        body = body.encode()
    content_type = (context.request_content_type or "").partition(";")[0].strip().lower()
    if content_type in PICTURE_TYPES or content_type in UNTOLD_TYPES:
        pictures = [_picture(body)]
    elif content_type == "application/x-npy":
        pictures = _from_npy(body)
    elif content_type == "application/json":
        pictures = _from_json(body)
    else:
        raise HTTPError(
            "415 Unsupported Media Type",
            title="Unsupported Media Type",
            description=f"{content_type} is not served: send {SERVED}",
        )
    return json.dumps({"instances": [{"b64": base64.b64encode(picture).decode()} for picture in pictures]})


def output_handler(response: Any, context: Any) -> tuple[bytes, str]:
    """Turn TensorFlow Serving's answer into the endpoint's: body and content type.

    A refusal of TensorFlow Serving (a picture that cannot be decoded) is passed on with its status.
    """
    if response.status_code != 200:
        raise HTTPError(
            f"{response.status_code} {response.reason or 'Error'}",
            title="The model refused the request",
            description=response.content.decode("utf-8", "replace")[:1000],
        )
    predictions = [_prediction(row) for row in json.loads(response.content)["predictions"]]
    return json.dumps({"predictions": predictions}).encode(), "application/json"


def _prediction(row: dict[str, Any]) -> dict[str, Any]:
    columns = zip(row["top_class_ids"], row["top_class_names"], row["top_probabilities"], strict=True)
    return {
        "class_id": row["class_id"],
        "class_name": row["class_name"],
        "probability": row["probability"],
        "top": [{"class_id": i, "class_name": name, "probability": p} for i, name, p in columns],
    }


def _bad_request(description: str) -> HTTPError:
    return HTTPError("400 Bad Request", title="Bad Request", description=description)


def _picture(body: bytes) -> bytes:
    if not any(body.startswith(magic) for magic in MAGIC):
        raise _bad_request(f"the body ({len(body)} bytes) is neither a PNG nor a JPEG picture")
    return body


def _from_json(body: bytes) -> list[bytes]:
    try:
        instances = json.loads(body)["instances"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _bad_request(f'the body is not {{"instances": [...]}}: {type(error).__name__}: {error}') from error
    if not isinstance(instances, list) or not instances:
        raise _bad_request('"instances" must be a list of at least one picture')
    return [_from_instance(instance) for instance in instances]


def _from_instance(instance: Any) -> bytes:
    if isinstance(instance, dict) and isinstance(instance.get("b64"), str):
        try:
            return _picture(base64.b64decode(instance["b64"], validate=True))
        except ValueError as error:
            raise _bad_request(f"an instance's b64 is not base64: {error}") from error
    try:
        # The check comes first: bytes() of a number would make that many zeros.
        if not all(len(pixel) == 3 for row in instance for pixel in row):
            raise ValueError("a pixel has not three values")
        rows = [b"".join(bytes(pixel) for pixel in row) for row in instance]
        width = len(instance[0])
    except (TypeError, ValueError, KeyError, IndexError) as error:
        # Values other than whole numbers from 0 to 255 end here too: a picture scaled to 0..1 is not a black one.
        raise _bad_request(
            f'an instance is neither {{"b64": ...}} nor lists [height][width][3] of whole numbers 0 to 255: {error}'
        ) from error
    return _png(width, rows)


def _from_npy(body: bytes) -> list[bytes]:
    """Read an .npy file of one uint8 picture or several.

    Source: numpy.lib.format, "Format Version 1.0" to "Format Version 3.0".
    """
    if not body.startswith(NPY_MAGIC) or len(body) < 12:
        raise _bad_request("the body is not an .npy file")
    size_format, start = ("<H", 10) if body[6] == 1 else ("<I", 12)
    try:
        (size,) = struct.unpack_from(size_format, body, 8)
        header = ast.literal_eval(body[start : start + size].decode("latin1"))
        shape, kind, fortran = list(header["shape"]), header["descr"], header["fortran_order"]
    except (ValueError, SyntaxError, KeyError, TypeError, RecursionError, MemoryError, struct.error) as error:
        # The last but one is how Python's parser gives up on deep nesting.
        raise _bad_request(f"the .npy header cannot be read: {error}") from error
    natural = all(isinstance(length, int) and length > 0 for length in shape)
    if kind != "|u1" or fortran or not natural or len(shape) not in (3, 4) or shape[-1] != 3:
        order = "Fortran" if fortran else "C"
        raise _bad_request(
            f"expected |u1 [height, width, 3] or [n, height, width, 3] in C order, got {kind} {shape} in {order} order"
        )
    count = shape[0] if len(shape) == 4 else 1
    height, width = shape[-3], shape[-2]
    pixels = body[start + size :]
    if len(pixels) != count * height * width * 3:
        raise _bad_request(f"the .npy file does not fit its shape {shape}: it holds {len(pixels)} bytes of pixels")
    stride = width * 3
    rows = [pixels[offset : offset + stride] for offset in range(0, len(pixels), stride)]
    return [_png(width, rows[i * height : (i + 1) * height]) for i in range(count)]


def _png(width: int, rows: list[bytes]) -> bytes:
    """Write rows of RGB bytes as a PNG file, lossless, so that arrays go the same way through the graph as pictures.

    Source: PNG specification (W3C), sections 5 and 11. Raises ``HTTPError`` 400 when the rows are empty or differ in
    length.
    """
    if not width or any(len(row) != width * 3 for row in rows):
        raise _bad_request("the rows of a picture are empty or differ in length")

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, len(rows), 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\x00" + row for row in rows), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
