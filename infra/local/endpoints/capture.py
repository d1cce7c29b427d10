"""Data capture: requests and answers of an endpoint as JSON lines in S3, in SageMaker's format and places.

Source: developer guide, "Capture data from real-time endpoint": one line an event, and files
``<destination>/<endpoint>/<variant>/yyyy/mm/dd/hh/MM-SS-mmm-<id>.jsonl``.
"""

from __future__ import annotations

import base64
import json
import logging
import random
import threading
import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from infra.local.store import Record

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Exchange:
    """One request and its answer."""

    request: bytes
    request_type: str
    answer: bytes
    answer_type: str
    inference_id: str | None
    custom_attributes: str | None


@dataclass(frozen=True)
class _Place:
    destination: str
    endpoint: str
    variant: str
    s3: Any
    """Writes in the name of the variant's model."""


class Captures:
    """Keeps lines until they are sent, a file a variant. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lines: dict[_Place, list[str]] = defaultdict(list)

    def add(self, endpoint: str, variant: str, config: Record | None, exchange: Exchange, s3: Any) -> None:
        """Keep an exchange if the endpoint's ``DataCaptureConfig`` samples it; ``s3`` is to write it."""
        if not config or not config.get("EnableCapture", True):
            return
        if random.random() * 100 >= config["InitialSamplingPercentage"]:  # noqa: S311  # It picks samples.
            return
        place = _Place(config["DestinationS3Uri"].rstrip("/"), endpoint, variant, s3)
        with self._lock:
            self._lines[place].append(json.dumps(_event(config, exchange)))

    def send(self) -> None:
        """Write what has come since the last time. What cannot be written is lost, and the log says so."""
        with self._lock:
            lines, self._lines = self._lines, defaultdict(list)
        for place, events in lines.items():
            moment = datetime.now(UTC)
            name = f"{moment:%Y/%m/%d/%H/%M-%S}-{moment.microsecond // 1000:03d}-{uuid.uuid4()}.jsonl"
            address = urlsplit(f"{place.destination}/{place.endpoint}/{place.variant}/{name}")
            try:
                place.s3.put_object(
                    Bucket=address.netloc, Key=address.path.lstrip("/"), Body="".join(f"{event}\n" for event in events)
                )
            except Exception:
                # An endpoint does not fail because its capture does.
                logger.exception("%d captured requests of %s are lost", len(events), place.endpoint)


def _event(config: Record, exchange: Exchange) -> dict[str, Any]:
    modes = {mode for option in config["CaptureOptions"] for mode in _MODES[option["CaptureMode"]]}
    forms = config.get("CaptureContentTypeHeader", {})
    sides = {
        "endpointInput": ("INPUT", exchange.request, exchange.request_type),
        "endpointOutput": ("OUTPUT", exchange.answer, exchange.answer_type),
    }
    captured = {
        member: {"observedContentType": kind, "mode": mode, **_data(body, kind, forms)}
        for member, (mode, body, kind) in sides.items()
        if mode in modes
    }
    metadata = {
        "eventId": str(uuid.uuid4()),
        "customAttributes": [exchange.custom_attributes] if exchange.custom_attributes else None,
        "inferenceId": exchange.inference_id,
        "inferenceTime": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
    shown = {key: value for key, value in metadata.items() if value is not None}
    return {"captureData": captured, "eventMetadata": shown, "eventVersion": "0"}


_MODES = {"Input": ("INPUT",), "Output": ("OUTPUT",), "InputAndOutput": ("INPUT", "OUTPUT")}


def _data(body: bytes, content_type: str, forms: dict[str, list[str]]) -> dict[str, str]:
    kind = content_type.partition(";")[0].strip().lower()
    for member, encoding in (("CsvContentTypes", "CSV"), ("JsonContentTypes", "JSON")):
        if kind in forms.get(member, []):
            return {"data": body.decode("utf-8", "replace"), "encoding": encoding}
    return {"data": base64.b64encode(body).decode(), "encoding": "BASE64"}
