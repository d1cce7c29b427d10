"""The services around SageMaker, where moto alone would do otherwise than AWS."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from botocore.exceptions import ClientError
from embedded_cloud import Cloud


def test_log_events_are_filtered_by_the_beginning_of_their_streams_names(cloud: Cloud) -> None:
    logs, group = cloud.client("logs"), f"group-{secrets.token_hex(4)}"
    logs.create_log_group(logGroupName=group)
    for stream, text in (("one/algo-1", "mine"), ("one/algo-2", "mine too"), ("other/algo-1", "not mine")):
        logs.create_log_stream(logGroupName=group, logStreamName=stream)
        events = [{"timestamp": int(time.time() * 1000), "message": text}]
        logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
    for prefix, texts in (("one/", ["mine", "mine too"]), ("nobody/", [])):
        answer = logs.filter_log_events(logGroupName=group, logStreamNamePrefix=prefix)
        assert [event["message"] for event in answer["events"]] == texts


def test_a_bucket_policy_denies_what_its_conditions_meet_and_nothing_else(cloud: Cloud) -> None:
    def denied(condition: dict[str, Any] | None) -> bool:
        """Whether a bucket that denies reading under a condition denies it."""
        statement = {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", "Resource": f"{arn}/*"}
        statement |= {"Condition": condition} if condition else {}
        cloud.client("s3").put_bucket_policy(Bucket=cloud.bucket, Policy=json.dumps({"Statement": [statement]}))
        try:
            cloud.client("s3").get_object(Bucket=cloud.bucket, Key="key")
        except ClientError as error:
            assert error.response["Error"]["Code"] in ("403", "AccessDenied", "Forbidden")
            return True
        return False

    arn = f"arn:aws:s3:::{cloud.bucket}"
    cloud.client("s3").put_object(Bucket=cloud.bucket, Key="key", Body=b"")
    assert not denied({"Bool": {"aws:SecureTransport": "false"}})
    assert denied({"Bool": {"aws:SecureTransport": True}})
    assert not denied({"StringEquals": {"aws:PrincipalTag/team": "another"}})
    assert denied(None)
