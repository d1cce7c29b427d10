"""The manifest: one row an image, with what its archive says and what its pixels show.

Written by preprocessing, held against the expectations by validation. It stands by itself because these two share no
other code: one needs TensorFlow, the other Great Expectations.

============================  ==========================================================================================
column                        content
============================  ==========================================================================================
``file``                      path inside the archive
``split``                     ``train``, ``validation`` or ``test``
``class_id``, ``track``       the annotated class; the physical sign, empty where the archive does not tell
``width``, ``height``         of the original image, in pixels, as annotated
``roi_left`` ... ``_bottom``  the sign's region of interest, in pixels of the original image
``pixel_width``, ``_height``  of the image as it lies in the archive; it may have been resized before
``brightness``, ``contrast``  mean and standard deviation of the luma, from 0 to 1
``content``                   SHA-256 of the raw RGB pixels, or of the file where these cannot be had
``error``                     why the image cannot be decoded, else null; then nothing is known of its pixels
============================  ==========================================================================================
"""

from __future__ import annotations

FILE = "manifest.parquet"

COLUMNS = (
    "file", "split", "class_id", "track", "width", "height", "roi_left", "roi_top", "roi_right", "roi_bottom",
    "pixel_width", "pixel_height", "brightness", "contrast", "content", "error",
)  # fmt: skip  # one a line would fill a screen
