"""The bodies that the contract's table names, and the pictures in them."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image
from signs_drawn import drawn, encoded

LIMIT = 6_291_456


@dataclass(frozen=True)
class Body:
    """Bytes, and what the model must see in them: encoded pictures, or none where it is refused."""

    content: bytes
    pictures: tuple[bytes, ...] = ()


def pixels(number: int, height: int = 40, width: int = 48) -> np.ndarray:
    return drawn(number, 900 + number, height, width)


PNG, JPEG = encoded(pixels(0)), encoded(pixels(1, 61, 50), "JPEG")
ARRAYS = np.stack([pixels(number) for number in (2, 3, 4)])


def npy(array: np.ndarray, pictures: tuple[bytes, ...] = ()) -> Body:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return Body(buffer.getvalue(), pictures)


def as_json(value: object, *pictures: bytes) -> Body:
    return Body(json.dumps(value).encode(), pictures)


def b64(picture: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(picture).decode()}


def mode(name: str) -> Body:
    buffer = io.BytesIO()
    Image.fromarray(pixels(5)).convert(name).save(buffer, "PNG")
    return Body(buffer.getvalue(), (buffer.getvalue(),))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def deep_png() -> Body:
    """A PNG with sixteen bits a channel, which Pillow cannot write."""
    rows = b"".join(b"\x00" + (row.astype(">u2") * 257).tobytes() for row in pixels(6))
    header = struct.pack(">IIBBBBB", 48, 40, 16, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    content = PNG[:8] + b"".join(parts)
    return Body(content, (content,))


def png_of(size: int) -> Body:
    """A PNG that a comment makes as long as wanted."""
    content = PNG[:33] + chunk(b"tEXt", b"Comment\0".ljust(size - len(PNG) - 12, b"x")) + PNG[33:]
    assert len(content) == size
    return Body(content, (content,))


def json_of(size: int) -> Body:
    return Body(json.dumps({"instances": [b64(PNG)]}).encode().ljust(size), (PNG,))


def jpeg_of(width: int, height: int) -> Body:
    frame = JPEG.index(b"\xff\xc0")
    return Body(JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :])


def csv_of(*arrays: np.ndarray) -> Body:
    lines = [",".join(map(str, array.ravel())) for array in arrays]
    return Body("\n".join(lines).encode(), tuple(encoded(array) for array in arrays))


MIXED = (encoded(pixels(2)), JPEG, PNG)
INSTANCES = [pixels(2).tolist(), b64(JPEG), b64(PNG)]
SQUARE = (pixels(7, 20, 20), pixels(8, 32, 32))

BODIES: dict[str, Callable[[], Body]] = {
    "nothing": lambda: Body(b""),
    "a PNG": lambda: Body(PNG, (PNG,)),
    "a JPEG": lambda: Body(JPEG, (JPEG,)),
    "a GIF": lambda: Body(encoded(pixels(0), "GIF")),
    "a web page": lambda: Body(b"<html></html>"),
    "a grey PNG": lambda: mode("L"),
    "a PNG with transparency": lambda: mode("RGBA"),
    "a PNG with 16 bits a channel": deep_png,
    "a PNG of one pixel": lambda: Body(encoded(pixels(0, 1, 1)), (encoded(pixels(0, 1, 1)),)),
    "half a PNG": lambda: Body(PNG[: len(PNG) // 2]),
    "half a JPEG": lambda: Body(JPEG[: len(JPEG) // 2]),
    "a PNG's first twenty bytes": lambda: Body(PNG[:20]),
    "a PNG that says 60000x60000": lambda: Body(
        PNG[:8] + chunk(b"IHDR", struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)) + PNG[33:]
    ),
    "a JPEG that says 60000x60000": lambda: jpeg_of(60000, 60000),
    "a PNG of 6,291,456 bytes": lambda: png_of(LIMIT),
    "a PNG of 6,291,457 bytes": lambda: png_of(LIMIT + 1),
    ".npy of one picture": lambda: npy(ARRAYS[0], (encoded(ARRAYS[0]),)),
    ".npy of three pictures": lambda: npy(ARRAYS, tuple(encoded(array) for array in ARRAYS)),
    ".npy of floats": lambda: npy(ARRAYS[0].astype(np.float32) / 255),
    ".npy of int64": lambda: npy(ARRAYS[0].astype(np.int64)),
    ".npy of a grey picture": lambda: npy(ARRAYS[0, :, :, 0]),
    ".npy that is cut": lambda: Body(npy(ARRAYS).content[:-7]),
    "CSV of two pictures": lambda: csv_of(*SQUARE),
    "CSV of floats": lambda: Body(b"0.5,0.5,0.5"),
    "CSV of NaN": lambda: Body(b"nan,0,0"),
    "CSV with one value too many": lambda: Body(csv_of(SQUARE[0]).content + b",1"),
    "JSON instances": lambda: as_json({"instances": INSTANCES}, *MIXED),
    "JSON inputs": lambda: as_json({"inputs": INSTANCES}, *MIXED),
    "JSON inputs by name": lambda: as_json({"inputs": {"image_bytes": INSTANCES}}, *MIXED),
    "JSON lines": lambda: Body("\n".join(map(json.dumps, INSTANCES)).encode() + b"\n", MIXED),
    "JSON with its signature's name": lambda: as_json(
        {"signature_name": "serving_default", "instances": [b64(PNG)]}, PNG
    ),
    "JSON of 6,291,456 bytes": lambda: json_of(LIMIT),
    "JSON of 6,291,457 bytes": lambda: json_of(LIMIT + 1),
    "JSON of NaN": lambda: as_json({"instances": [[[[float("nan"), 0, 0]]]]}),
    "JSON of floats": lambda: as_json({"instances": [[[[1.0, 0.5, 0.0]]]]}),
    "JSON of 256": lambda: as_json({"instances": [[[[256, 0, 0]]]]}),
    "JSON of rows that differ in length": lambda: as_json({"instances": [[[[0, 0, 0]], [[0, 0, 0]] * 2]]}),
    "JSON of a grey picture": lambda: as_json({"instances": [[[0, 1], [2, 3]]]}),
    "JSON of bad base64": lambda: as_json({"instances": [{"b64": "no base64!"}]}),
    "JSON of half a PNG and a whole one": lambda: as_json({"instances": [b64(PNG[: len(PNG) // 2]), b64(PNG)]}),
    "JSON of no instances": lambda: as_json({"instances": []}),
    "JSON of 2,049 instances": lambda: as_json({"instances": [[[[0, 0, 0]]]] * 2049}),
    "JSON of both instances and inputs": lambda: as_json({"instances": INSTANCES, "inputs": INSTANCES}),
    "JSON that is a list": lambda: as_json(INSTANCES),
    "JSON that is cut": lambda: Body(as_json({"instances": INSTANCES}).content[:-2]),
    "JSON that is deeply nested": lambda: Body(b"[" * 100_000),
    "JSON with an unknown signature": lambda: as_json({"signature_name": "none", "instances": [b64(PNG)]}),
    "JSON with a signature that is no name": lambda: as_json({"signature_name": 7, "instances": [b64(PNG)]}),
}
