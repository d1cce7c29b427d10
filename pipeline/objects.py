"""Objects in S3, by their addresses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def split(address: str) -> tuple[str, str]:
    """Take ``s3://bucket/key`` apart: the bucket, and the key or prefix without slashes around it."""
    # Not by a parser of URLs: in a key # and ? are letters like others.
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return bucket, key.strip("/")


def keys(s3: Any, bucket: str, prefix: str) -> Iterator[str]:
    """Yield the keys that begin with a prefix, in S3's order. ``s3`` is a boto3 client."""
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (item["Key"] for item in page.get("Contents", []))
