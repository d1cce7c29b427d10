"""What an image file shows: its pixels and a few measures. Pillow decodes; nothing here needs TensorFlow."""

from __future__ import annotations

import hashlib
import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from trafficsigns.sources.annotations import Archive

FORMATS = ("PPM", "PNG", "JPEG")
"""What is decoded; Pillow would otherwise try dozens of formats, some through outside programs."""

LARGEST_SIDE = 4096
"""Pixels; what is larger is not even decoded, since a few bytes can claim any size."""

_CARRIED = 256 * 256
"""Pixels of the largest image that is handed from process to process; larger ones are decoded again where they are
needed, one at a time, so that photographs of any size do not pile up in memory."""

_PPM = re.compile(rb"P[36](?:\s+(?:#[^\n]*\n\s*)*\d+){2}\s+(?:#[^\n]*\n\s*)*(\d+)")
"""A coloured PPM's header as far as its largest value."""

_MODES = ("RGB", "L", "1", "P")
UNDECODABLE = (OSError, ValueError, SyntaxError, struct.error, zlib.error, LookupError, OverflowError, MemoryError)
"""What ``decode`` raises for bytes that are no picture, or not one of the kind that is expected."""

_LEVELS = np.arange(256, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Picture:
    """A decoded image, or the reason why it cannot be had."""

    pixels: bytes
    """RGB row by row, or a PNG file if that was asked for; empty with an error, or where they are too many to carry."""
    width: int | None
    height: int | None
    brightness: float | None
    """Mean of the luma (ITU-R BT.601, in 256 levels), from 0 to 1."""
    contrast: float | None
    """Its standard deviation, from 0 to 1."""
    content: str
    """SHA-256 of the pixels, not of the file: two files may hold one picture in different wrappings."""
    error: str | None = None


def look(archive: Archive, task: tuple[Sequence[str], bool]) -> list[Picture]:
    """Look at some of an archive's files; the second part of ``task`` asks for PNG files instead of pixels.

    Raises ``StepError`` for a file that the archive does not hold whole.
    """
    files, as_png = task
    return [_picture(archive.read(file), as_png) for file in files]


def _picture(encoded: bytes, as_png: bool) -> Picture:
    try:
        image = decode(encoded)
    except UNDECODABLE as error:
        return Picture(b"", None, None, None, None, hashlib.sha256(encoded).hexdigest(), _reason(error))
    pixels = image.tobytes()
    brightness, contrast = _luma(image)
    carried = b"" if image.width * image.height > _CARRIED else _png(image) if as_png else pixels
    return Picture(carried, image.width, image.height, brightness, contrast, hashlib.sha256(pixels).hexdigest())


def png_of(picture: Picture, archive: Archive, file: str) -> bytes:
    """Return the PNG file of a picture that was looked at for it, whether it carries that or not."""
    return picture.pixels or _png(decode(archive.read(file)))


def decode(encoded: bytes) -> Image.Image:
    """Decode a PPM, PNG or JPEG file of one opaque picture with 8 bits a channel, RGB or grey.

    Returns RGB. Raises one of several errors for what is broken, and ``ValueError`` for what is whole and means
    something else to every program: CMYK, transparency, 16 bits, several frames.
    """
    with warnings.catch_warnings():
        # Its warnings about size are superseded by the bound below.
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(encoded), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise ValueError(f"claims to be larger than {LARGEST_SIDE} pixels a side") from error
    with image:
        if max(image.size) > LARGEST_SIDE:
            raise ValueError(f"claims {image.width} x {image.height} pixels: at most {LARGEST_SIDE} a side are decoded")
        if (frames := getattr(image, "n_frames", 1)) > 1:
            raise ValueError(f"has {frames} frames: expected one picture")
        if encoded.startswith(b"\x89PNG") and encoded[24] > 8:
            raise ValueError(f"has {encoded[24]} bits a channel: expected 8")
        # Pillow would cut these down to eight without a word.
        if (header := _PPM.match(encoded)) and int(header[1]) > 255:
            raise ValueError(f"has values up to {int(header[1])}: expected 255, 8 bits a channel")
        if image.has_transparency_data and min(image.convert("RGBA").getchannel("A").tobytes()) < 255:
            raise ValueError("has transparent pixels: expected an opaque picture")
        if image.mode not in (*_MODES, "RGBA", "LA"):
            raise ValueError(f"has colours of the mode {image.mode}: expected RGB or grey with 8 bits a channel")
        return image.convert("RGB")


def _reason(error: Exception) -> str:
    # Pillow names the buffer that it was given by its address in memory, which differs from run to run.
    return f"{type(error).__name__}: {str(error).partition(' <_io')[0]}"


def _luma(image: Image.Image) -> tuple[float, float]:
    """Return brightness and contrast, from sums of whole numbers, in which no library's order of summing shows."""
    counts = np.array(image.convert("L").histogram(), np.int64)
    size, total, squares = image.width * image.height, int(counts @ _LEVELS), int(counts @ _LEVELS**2)
    return total / size / 255, math.sqrt(size * squares - total**2) / size / 255


def _png(image: Image.Image) -> bytes:
    # No TensorFlow operation decodes PPM; PNG keeps every pixel.
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


THUMBNAIL = 16
"""Side of the grey pictures by which images are compared."""


def thumbnails(archive: Archive, files: Sequence[str]) -> list[bytes]:
    """Reduce files to ``THUMBNAIL`` x ``THUMBNAIL`` grey levels each; empty where a file cannot be decoded."""
    small = []
    for file in files:
        try:
            grey = decode(archive.read(file)).convert("L")
            small.append(grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).tobytes())
        except UNDECODABLE:
            small.append(b"")
    return small
