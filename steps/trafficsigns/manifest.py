"""The manifest: one row an image, with what its archive says and what its pixels show.

Written by preprocessing, one part by each of its machines; held against the expectations by validation. It stands by
itself because these two share no other code: one needs TensorFlow, the other Great Expectations.

============================  ==========================================================================================
column                        content
============================  ==========================================================================================
``file``                      path inside the archive
``row``                       line of the table that lists it, or its place in an array; null where neither exists
``split``                     ``train``, ``validation`` or ``test``
``class_id``, ``track``       the annotated class; the physical sign, empty where the archive does not tell
``group``                     what is never divided between splits: the track, or images that look alike
``width``, ``height``         of the original image, in pixels, as annotated, or of the image itself
``roi_left`` ... ``_bottom``  the sign's region of interest, in pixels of the original image; by default all of it
``pixel_width``, ``_height``  of the image as it lies in the archive; it may have been resized before
``brightness``, ``contrast``  mean and standard deviation of the luma, from 0 to 1
``content``                   SHA-256 of the raw RGB pixels, or of the file where these cannot be had
``error``                     why the image cannot be decoded, else null; then nothing is known of its pixels
============================  ==========================================================================================

Beside the parts lies ``dataset.json``: layout, class names, how many images the archive lists, what it does not list.
"""

from __future__ import annotations

import pyarrow as pa

PARTS = "manifest-*.parquet"
NOTES = "dataset.json"

SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int32()),
        ("split", pa.string()),
        ("class_id", pa.int32()),
        ("track", pa.string()),
        ("group", pa.string()),
        *(
            (name, pa.int32())
            for name in (
                "width", "height", "roi_left", "roi_top", "roi_right", "roi_bottom", "pixel_width", "pixel_height",
            )
        ),
        ("brightness", pa.float64()),
        ("contrast", pa.float64()),
        ("content", pa.string()),
        ("error", pa.string()),
    ]
)  # fmt: skip

COLUMNS = tuple(SCHEMA.names)
