"""The endpoint's handler: turns a client's pictures into TensorFlow Serving's JSON, and the answer into a short one.

AWS's TensorFlow image loads this file from ``code/inference.py`` of the model archive and calls ``input_handler`` and
``output_handler`` around TensorFlow Serving; the local model server does the same with the same file. The image holds
neither TensorFlow nor Pillow, so only the standard library is used, and decoding, resizing and the network itself lie
in the SavedModel's graph. Source: https://github.com/aws/sagemaker-tensorflow-serving-container (pre/post-processing).

======================  ==========================================================================================
Content-Type            body
======================  ==========================================================================================
image/png, image/jpeg   one encoded picture; so is application/x-image
application/x-npy       one uint8 array [height, width, 3], or several [n, height, width, 3]
text/csv                a square picture a line: 3 * side * side whole numbers, row by row, red, green, blue
application/json        ``{"instances": [...]}`` or ``{"inputs": [...]}``, each a picture: ``{"b64": "..."}`` or nested
                        lists [height][width][3]
application/jsonlines   such a picture a line
none, or one that says  whatever its first bytes say it is: PNG, JPEG, .npy or JSON
nothing
======================  ==========================================================================================

======================  ==========================================================================================
Accept                  answer, for every picture in the order of the request
======================  ==========================================================================================
application/json        ``{"predictions": [{"class_id", "class_name", "probability", "top": [{...} x 5]}, ...]}``; also
                        for ``*/*`` and without an Accept
application/jsonlines   such a prediction a line
text/csv                a line: class_id,class_name,probability of the best class, then of the second, to the fifth
application/x-npy       float32 array [n, classes] of probabilities
======================  ==========================================================================================

``docs/serving.md`` holds the contract, request by request.
"""

from __future__ import annotations

import ast
import base64
import binascii
import csv
import io
import json
import math
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


PNG_MAGIC, JPEG_MAGIC, NPY_MAGIC = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"\x93NUMPY"
JSON, JSON_LINES, CSV, NPY = "application/json", "application/jsonlines", "text/csv", "application/x-npy"
PICTURE_TYPES = ("image/png", "image/jpeg", "image/jpg", "application/x-image")
# What curl and some clients say when nobody told them what they send.
UNTOLD_TYPES = ("", "*/*", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
SERVED = f"image/png, image/jpeg, {NPY}, {CSV}, {JSON} or {JSON_LINES}"
ANSWERED = {JSON: JSON, "*/*": JSON, "application/*": JSON, JSON_LINES: JSON_LINES, CSV: CSV, "text/*": CSV, NPY: NPY}

MOST_PICTURES = 2048
"""Of a request: as many as 32x32 arrays fit into the 6,291,456 bytes that SageMaker passes on."""

MOST_PIXELS = 2**25
"""Of a request's pictures together: the graph holds them as floats, 400 MB at this bound."""


def input_handler(data: Any, context: Any) -> str:
    """Turn a request's body into the JSON that TensorFlow Serving's REST interface takes.

    ``data`` is a stream; ``context`` carries ``request_content_type`` and ``accept_header``. Raises ``HTTPError`` 415
    for a type that is not in the table above, 406 if none of the answers is accepted, and 400 for a body that is not
    what its type says.
    """
    _answer_type(context.accept_header)
    body = data.read()
    if isinstance(body, str):
        body = body.encode()
    content_type = (context.request_content_type or "").partition(";")[0].strip().lower()
    if content_type in UNTOLD_TYPES:
        content_type = _sniffed(body)
    if content_type in PICTURE_TYPES:
        request = _request([body])
    elif content_type == NPY:
        request = _request(_from_npy(body))
    elif content_type == CSV:
        request = _request(_from_csv(body))
    elif content_type == JSON:
        request = _from_json(body)
    elif content_type == JSON_LINES:
        request = _request([_from_instance(_parsed(line)) for line in _few(_lines(body))])
    else:
        raise _error(415, "Unsupported Media Type", f"{content_type[:100]} is not served: send {SERVED}")
    return request


def output_handler(response: Any, context: Any) -> tuple[bytes, str]:
    """Turn TensorFlow Serving's answer into the endpoint's: body and content type.

    A refusal of TensorFlow Serving (a picture that cannot be decoded) is passed on with its status; since 2.20 the
    image does so by itself and does not ask this function.
    """
    if response.status_code != 200:
        said = response.content.decode("utf-8", "replace")[:1000]
        raise _error(response.status_code, response.reason or "Error", said)
    rows = json.loads(response.content)["predictions"]
    accepted = _answer_type(context.accept_header)
    if accepted == NPY:
        return _npy([row["probabilities"] for row in rows]), NPY
    predictions = [_prediction(row) for row in rows]
    if accepted == CSV:
        return _csv(predictions), CSV
    if accepted == JSON_LINES:
        return "".join(f"{json.dumps(prediction)}\n" for prediction in predictions).encode(), JSON_LINES
    return json.dumps({"predictions": predictions}).encode(), JSON


def _error(status: int, reason: str, description: str) -> HTTPError:
    return HTTPError(f"{status} {reason}", title=reason, description=description)


def _bad_request(description: str) -> HTTPError:
    return _error(400, "Bad Request", description)


def _answer_type(accept: str | None) -> str:
    """Return the answer that a client likes best. Source: RFC 9110, 12.5.1. Raises ``HTTPError`` 406 if there is none.

    The header itself never becomes the answer's content type: it may be ``*/*``, or a list.
    """
    if not accept or accept in ANSWERED:
        return ANSWERED[accept or JSON]
    liked: dict[str, float] = {}
    for entry in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in entry.split(";"))
        answer = ANSWERED.get(kind)
        if answer:
            liked[answer] = max(liked.get(answer, 0.0), _weight(parameters))
    best = max(liked, key=lambda kind: liked[kind], default=None)
    if best is None or not liked[best]:
        raise _error(
            406, "Not Acceptable", f"{accept[:100]} cannot be had: accept {JSON}, {JSON_LINES}, {CSV} or {NPY}"
        )
    return best


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return float(parameter[2:])
            except ValueError:
                return 0.0
    return 1.0


def _sniffed(body: bytes) -> str:
    if body.startswith(NPY_MAGIC):
        return NPY
    return JSON if body.lstrip()[:1] == b"{" else PICTURE_TYPES[0]


def _request(pictures: list[bytes], signature: str | None = None) -> str:
    """Lay pictures out as TensorFlow Serving's rows. Raises ``HTTPError`` 400 if one is none, or all are too many."""
    pixels = sum(_pixels(picture) for picture in _few(pictures))
    if pixels > MOST_PIXELS:
        raise _bad_request(f"the pictures have {pixels} pixels together, more than {MOST_PIXELS}: send smaller ones")
    # Base64 has nothing that JSON must escape; to look for it takes longer than to encode.
    rows = ", ".join(f'{{"b64": "{base64.b64encode(picture).decode()}"}}' for picture in pictures)
    named = "" if signature is None else f'"signature_name": {json.dumps(signature)}, '
    return f'{{{named}"instances": [{rows}]}}'


def _few(items: Any) -> Any:
    # Asked before each of them is turned into a picture: six million bytes may hold a million.
    if not 0 < len(items) <= MOST_PICTURES:
        raise _bad_request(f"expected 1 to {MOST_PICTURES} pictures in one request, got {len(items)}")
    return items


def _pixels(picture: bytes) -> int:
    """Read from an encoded picture's header how many pixels it says it has, before anybody makes room for them."""
    if picture.startswith(PNG_MAGIC) and len(picture) >= 24:
        width, height = struct.unpack_from(">II", picture, 16)
        return int(width * height)
    if picture.startswith(JPEG_MAGIC):
        return _jpeg_pixels(picture)
    raise _bad_request(f"the body ({len(picture)} bytes) is neither a PNG nor a JPEG picture")


def _jpeg_pixels(picture: bytes) -> int:
    """Find the frame header among a JPEG's segments. Source: ITU-T T.81, annex B.

    What is cut off before it counts as nothing: the graph will say what is wrong with it.
    """
    position = 2
    while position + 9 <= len(picture) and picture[position] == 0xFF:
        marker, length = picture[position + 1], int.from_bytes(picture[position + 2 : position + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", picture, position + 5)
            return int(width * height)
        # A marker may be preceded by any number of fill bytes.
        position += 1 if marker == 0xFF else 2 + length
    return 0


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _bad_request(f"the body is not JSON: {type(error).__name__}: {error}") from error


def _from_json(body: bytes) -> str:
    """Read TensorFlow Serving's rows (``instances``) or columns (``inputs``); the answers are alike."""
    given = _parsed(body)
    names = [name for name in ("instances", "inputs") if isinstance(given, dict) and name in given]
    if len(names) != 1:
        raise _bad_request('expected {"instances": [...]} or {"inputs": [...]}')
    instances, signature = given[names[0]], given.get("signature_name")
    if names == ["inputs"] and isinstance(instances, dict):
        instances = [instances] if "b64" in instances else instances.get("image_bytes")
    if not isinstance(instances, list):
        raise _bad_request(f'"{names[0]}" must be a list of pictures')
    if signature is not None and not isinstance(signature, str):
        raise _bad_request('"signature_name" must be a string')
    # Which signatures there are, TensorFlow Serving knows.
    return _request([_from_instance(instance) for instance in _few(instances)], signature)


def _from_instance(instance: Any) -> bytes:
    if isinstance(instance, dict) and isinstance(instance.get("b64"), str):
        try:
            return binascii.a2b_base64(instance["b64"], strict_mode=True)
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


def _lines(body: bytes) -> list[bytes]:
    return [line for line in body.splitlines() if line.strip()]


def _from_csv(body: bytes) -> list[bytes]:
    """Read a square picture a line: that is what whole numbers without a shape can say."""
    pictures = []
    for number, line in enumerate(_few(_lines(body)), start=1):
        try:
            pixels = bytes(map(int, line.split(b",")))
        except ValueError as error:
            raise _bad_request(f"line {number} is not whole numbers 0 to 255 with commas between: {error}") from error
        side = math.isqrt(len(pixels) // 3)
        if len(pixels) != 3 * side * side:
            raise _bad_request(f"line {number} has {len(pixels)} values, not 3 * side * side as a square picture has")
        pictures.append(_png(side, [pixels[start : start + 3 * side] for start in range(0, len(pixels), 3 * side)]))
    return pictures


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
    return [_png(width, rows[i * height : (i + 1) * height]) for i in _few(range(count))]


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
    return PNG_MAGIC + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _prediction(row: dict[str, Any]) -> dict[str, Any]:
    columns = zip(row["top_class_ids"], row["top_class_names"], row["top_probabilities"], strict=True)
    return {
        "class_id": row["class_id"],
        "class_name": row["class_name"],
        "probability": row["probability"],
        "top": [{"class_id": i, "class_name": name, "probability": p} for i, name, p in columns],
    }


def _csv(predictions: list[dict[str, Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for prediction in predictions:
        writer.writerow(value for ranked in prediction["top"] for value in ranked.values())
    return text.getvalue().encode()


def _npy(rows: list[list[float]]) -> bytes:
    """Write float32 ``[n, m]`` as an .npy file. Source: numpy.lib.format, "Format Version 1.0"."""
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({len(rows)}, {len(rows[0])}), }}"
    padded = header.ljust(-(len(NPY_MAGIC) + 4 + len(header) + 1) % 64 + len(header)) + "\n"
    values = [value for row in rows for value in row]
    return (
        NPY_MAGIC
        + b"\x01\x00"
        + struct.pack(f"<H{len(padded)}s", len(padded), padded.encode())
        + struct.pack(f"<{len(values)}f", *values)
    )
