"""The services around SageMaker, where moto alone would do otherwise than AWS."""

from __future__ import annotations

import secrets
import time

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
