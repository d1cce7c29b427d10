"""Golden pictures: test pictures whose answers evaluation wrote down, and which a served model must give again."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from trafficsigns.failures import StepError

KEY = "GoldenImages"
"""The package's metadata property that holds the S3 prefix of its golden pictures."""

PROBABILITY_TOLERANCE = 0.01
"""How far a golden answer's probability may be off: other processors round differently, other models differ more."""


class Unfit(StepError):
    """A version that cannot serve, or does not answer as it did in evaluation: the fault is its own."""


@dataclass(frozen=True)
class Golden:
    """One picture and the answer that evaluation got."""

    file: str
    class_id: int
    class_name: str
    probability: float
    picture: bytes


def fetch(s3: Any, package: dict[str, Any]) -> list[Golden]:
    """Fetch a version's golden pictures.

    Raises ``StepError`` where it has none, or their list is not what evaluation writes.
    """
    arn, prefix = package["ModelPackageArn"], package.get("CustomerMetadataProperties", {}).get(KEY)
    if not prefix:
        raise StepError(f"{arn} has no property {KEY}: it cannot be proved to work; reject it or set that")
    try:
        golden = [
            Golden(
                str(row["file"]),
                int(row["class_id"]),
                str(row["class_name"]),
                float(row["probability"]),
                _read(s3, prefix, row["file"]),
            )
            for row in json.loads(_read(s3, prefix, "golden.json"))
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise StepError(f"{prefix}/golden.json is not what steps/evaluate.py writes: {error!r}") from error
    if not golden:
        raise StepError(f"{prefix}/golden.json lists no picture: {arn} cannot be proved to work; reject it")
    return golden


def _read(s3: Any, prefix: str, file: str) -> bytes:
    address = urlsplit(prefix)
    content: bytes = s3.get_object(Bucket=address.netloc, Key=f"{address.path.strip('/')}/{file}")["Body"].read()
    return content


def prove(runtime: Any, endpoint: str, golden: list[Golden]) -> None:
    """Require of an endpoint the answers that evaluation wrote down. Raises ``Unfit`` with the first that differs."""
    for expected in golden:
        class_id, class_name, probability = _ask(runtime, endpoint, expected.picture)
        near = abs(probability - expected.probability) <= PROBABILITY_TOLERANCE
        if class_id != expected.class_id or not near:
            raise Unfit(
                f"{expected.file}: the endpoint answers {class_name} ({probability:.3f}), "
                f"evaluation said {expected.class_name} ({expected.probability:.3f})"
            )


def _ask(runtime: Any, endpoint: str, picture: bytes) -> tuple[int, str, float]:
    try:
        answer = runtime.invoke_endpoint(EndpointName=endpoint, ContentType="image/png", Body=picture)
        first = json.loads(answer["Body"].read())["predictions"][0]
        return int(first["class_id"]), str(first["class_name"]), float(first["probability"])
    except runtime.exceptions.ModelError as error:
        raise Unfit(f"the endpoint refuses a golden picture: {error}") from error
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Unfit(f"the endpoint's answer to a golden picture cannot be read: {error!r}") from error
