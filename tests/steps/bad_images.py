"""Bytes with the name of an image that are none, or not one of the kind that is expected."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
from layouts import encoded
from official import ppm
from PIL import Image

IMAGES: dict[str, Callable[[], bytes]] = {}


def image(name: str, content: Callable[[], bytes]) -> None:
    IMAGES[name] = content


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, shape, np.uint8)


def saved(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def png_header(width: int, height: int, depth: int = 8) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def animated() -> bytes:
    frames = [Image.fromarray(pixels(32, 32, 3)) for _ in range(3)]
    return saved(frames[0], "PNG", save_all=True, append_images=[frame.transpose(0) for frame in frames[1:]])


def damaged(content: bytes, start: int) -> bytes:
    return content[:start] + b"\x00\xff" * 30 + content[start + 60 :]


WHOLE_PNG, WHOLE_JPEG = encoded(pixels(32, 32, 3)), encoded(pixels(32, 32, 3), "JPEG")

image("an image of zero bytes", bytes)
image("an image of spaces", lambda: b" " * 3085)
image("a text with an image's name", lambda: b"Dear model, how are you?")
image("a page of a proxy with an image's name", lambda: b"<html>403 Forbidden</html>")
image("a PPM that is cut", lambda: ppm(pixels(32, 32, 3))[:-100])
image("a PPM without its size", lambda: b"P6\n255\n" + bytes(100))
image("a PPM of letters", lambda: b"P6\nwide high\n255\n" + bytes(100))
image("a PPM of no width", lambda: b"P6\n0 32\n255\n")
image("a PPM of negative height", lambda: b"P6\n32 -32\n255\n" + bytes(3072))
image("a PNG that is cut", lambda: WHOLE_PNG[: len(WHOLE_PNG) // 2])
image("a PNG that is nothing but its signature", lambda: b"\x89PNG\r\n\x1a\n")
image("a PNG with damaged pixels", lambda: damaged(WHOLE_PNG, 200))
image("a PNG without its pixels", lambda: png_header(32, 32))
image("a JPEG that is cut", lambda: WHOLE_JPEG[: len(WHOLE_JPEG) // 2])
image("a JPEG of headers alone", lambda: WHOLE_JPEG[:60])
image("a bomb: a PPM that claims 50,000 x 50,000 pixels", lambda: b"P6\n50000 50000\n255\nxx")
image("a bomb: a PNG that claims 50,000 x 50,000 pixels", lambda: png_header(50_000, 50_000))
image("an image just above the largest side", lambda: b"P6\n4097 16\n255\n" + bytes(4097 * 16 * 3))
image("a JPEG in CMYK", lambda: saved(Image.fromarray(pixels(32, 32, 4), "CMYK"), "JPEG"))
image("a PNG with transparent pixels", lambda: encoded(pixels(32, 32, 4)))
image(
    "a PNG with a transparent colour",
    lambda: saved(Image.fromarray(pixels(32, 32)).convert("P"), "PNG", transparency=0),
)
image("a grey PNG with 16 bits", lambda: saved(Image.fromarray(pixels(32, 32).astype(np.uint16) * 257), "PNG"))
image("a PNG with 16 bits a colour", lambda: png_header(32, 32, 16))
image("a PPM with 16 bits", lambda: b"P6 # as a camera writes it\n32 32\n65535\n" + bytes(6144))
image("a PGM with 16 bits", lambda: b"P5\n32 32\n65535\n" + bytes(2048))
image("an animated PNG", animated)
image("a GIF", lambda: saved(Image.fromarray(pixels(32, 32)), "GIF"))
image("a BMP", lambda: saved(Image.fromarray(pixels(32, 32, 3)), "BMP"))
image("a TIFF", lambda: saved(Image.fromarray(pixels(32, 32, 3)), "TIFF"))
image("a WebP", lambda: saved(Image.fromarray(pixels(32, 32, 3)), "WEBP"))
image("a PostScript program", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n")
image("a zip with an image's name", lambda: b"PK\x05\x06" + bytes(18))
