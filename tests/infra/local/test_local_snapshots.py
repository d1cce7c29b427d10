"""What moto holds outlives its process: after any death, everything that was acknowledged is there."""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from embedded_cloud import ROLE

from infra.local import control
from infra.local.control import ServerError

SECONDS, ENOUGH = 25, 240
"""How long servers are killed in one test, and how long on a machine so slow that much did not happen by then."""

KINDS = {"object", "overwritten", "deleted", "upload", "uploaded", "log", "role", "message", "rule", "alarm"}
"""What must have been acknowledged at least once."""


class Mortal:
    """A state folder and the server on it, which can be killed; the next one takes its port."""

    def __init__(self, state: Path) -> None:
        self.state, self.port = state, 0
        self.start()
        self.port = urlsplit(self.server.url).port or 0
        self._clients: dict[str, Any] = {}

    def start(self) -> None:
        self.server = control.start(self.state, port=self.port, region="eu-central-1")

    def kill(self) -> None:
        self.killed = time.monotonic()
        os.kill(self.server.pid, signal.SIGKILL)
        os.waitpid(self.server.pid, 0)

    def again(self) -> None:
        self.kill()
        self.start()

    def client(self, service: str) -> Any:
        if service not in self._clients:
            session = boto3.Session("local", "local", region_name="eu-central-1")
            config = Config(retries={"total_max_attempts": 1}, proxies={})
            self._clients[service] = session.client(service, endpoint_url=self.server.url, config=config)
        return self._clients[service]

    def units(self) -> list[tuple[str, ...]]:
        with sqlite3.connect(self.state / "moto.sqlite") as connection:
            return connection.execute("SELECT place, kind, name FROM units").fetchall()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[Mortal]:
    held = Mortal(tmp_path)
    yield held
    control.stop(tmp_path)


def now() -> int:
    """In milliseconds, as Logs wants it; it takes no events older than two weeks."""
    return int(time.time() * 1000)


# What is done while servers are killed. Each yields after a call that was answered.


def objects(mortal: Mortal, kept: dict[str, Any], tag: str) -> Iterator[None]:
    s3 = mortal.client("s3")
    for number in range(10**6):
        key, body = f"{tag}/{number}", secrets.token_bytes(random.choice([0, 10, 100_000]))
        version = s3.put_object(Bucket="versioned", Key=key, Body=body, Tagging=f"number={number}")["VersionId"]
        kept[f"object {key}"] = lambda m, k=key, v=version, b=body: (
            m.client("s3").get_object(Bucket="versioned", Key=k, VersionId=v)["Body"].read() == b
        )
        kept[f"tags {key}"] = lambda m, k=key, v=version, n=number: (
            m.client("s3").get_object_tagging(Bucket="versioned", Key=k, VersionId=v)["TagSet"][0]["Value"] == str(n)
        )
        yield


def overwritten(mortal: Mortal, kept: dict[str, Any], tag: str) -> Iterator[None]:
    s3, key, place = mortal.client("s3"), f"{tag}", {"Bucket": "plain", "Key": tag}

    def read(m: Mortal) -> bytes:
        body: bytes = m.client("s3").get_object(Bucket="plain", Key=key)["Body"].read()
        return body

    for number in range(10**6):
        # Whether a call took place that nobody answered is open.
        kept[f"overwritten {key}"] = lambda m, n=number: read(m) in (b"%d" % (n - 1), b"%d" % n) if n else True
        s3.put_object(**place, Body=b"%d" % number)
        kept[f"overwritten {key}"] = lambda m, n=number: read(m) == b"%d" % n
        yield
        s3.put_object(Bucket="plain", Key=f"{tag}-brief-{number}", Body=b"brief")
        s3.delete_object(Bucket="plain", Key=f"{tag}-brief-{number}")
        kept[f"deleted {tag} {number}"] = lambda m, n=number: (
            f"{tag}-brief-{n}" not in keys(m.client("s3").list_objects_v2(Bucket="plain", Prefix=f"{tag}-brief-{n}"))
        )
        yield


def keys(listing: dict[str, Any]) -> list[str]:
    return [item["Key"] for item in listing.get("Contents", [])]


def uploads(mortal: Mortal, kept: dict[str, Any], tag: str) -> Iterator[None]:
    s3 = mortal.client("s3")
    for number in range(10**6):
        place = {"Bucket": "plain", "Key": f"upload/{tag}/{number}"}
        upload = {**place, "UploadId": s3.create_multipart_upload(**place)["UploadId"]}
        etag = s3.upload_part(**upload, PartNumber=1, Body=b"part")["ETag"]
        kept[f"upload {place}"] = lambda m, u=upload, e=etag: m.client("s3").list_parts(**u)["Parts"][0]["ETag"] == e
        yield
        if number % 2:
            continue  # This one stays open.
        del kept[f"upload {place}"]
        s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
        kept[f"uploaded {place}"] = lambda m, p=place: m.client("s3").get_object(**p)["Body"].read() == b"part"
        yield


def events(mortal: Mortal, kept: dict[str, Any], tag: str) -> Iterator[None]:
    logs = mortal.client("logs")
    logs.create_log_stream(logGroupName="group", logStreamName=tag)
    lines: list[str] = []

    def complete(m: Mortal, stream: str = tag, expected: list[str] = lines) -> bool:
        answer = m.client("logs").get_log_events(logGroupName="group", logStreamName=stream, startFromHead=True)
        found = [event["message"] for event in answer["events"]]
        return found[: len(expected)] == expected

    for number in range(10**6):
        batch = [f"{number}.{line}" for line in range(3)]
        stamped = [{"timestamp": now(), "message": line} for line in batch]
        logs.put_log_events(logGroupName="group", logStreamName=tag, logEvents=stamped)
        lines.extend(batch)
        kept[f"log {tag}"] = complete
        yield


def others(mortal: Mortal, kept: dict[str, Any], tag: str) -> Iterator[None]:
    iam, sqs, rules, alarms = (mortal.client(service) for service in ("iam", "sqs", "events", "cloudwatch"))
    for number in range(10**6):
        name = f"{tag}-{number}"
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
        kept[f"role {name}"] = lambda m, n=name: m.client("iam").get_role(RoleName=n)
        yield
        queue = sqs.create_queue(QueueName=name)["QueueUrl"]
        sqs.send_message(QueueUrl=queue, MessageBody=name)
        kept[f"message {name}"] = lambda m, q=queue: (
            m.client("sqs").get_queue_attributes(QueueUrl=q, AttributeNames=["All"])["Attributes"][
                "ApproximateNumberOfMessages"
            ]
            == "1"
        )
        yield
        rules.put_rule(Name=name, EventPattern='{"source": ["own"]}')
        target = {"Id": "1", "Arn": f"arn:aws:sqs:eu-central-1:123456789012:{name}"}
        rules.put_targets(Rule=name, Targets=[target])
        kept[f"rule {name}"] = lambda m, n=name: m.client("events").list_targets_by_rule(Rule=n)["Targets"][0]["Id"]
        yield
        alarm = {"MetricName": "m", "Namespace": "n", "Period": 60, "EvaluationPeriods": 1, "Threshold": 1.0}
        alarms.put_metric_alarm(AlarmName=name, ComparisonOperator="GreaterThanThreshold", Statistic="Sum", **alarm)
        kept[f"alarm {name}"] = lambda m, n=name: m.client("cloudwatch").describe_alarms(AlarmNames=[n])["MetricAlarms"]
        yield


WORK: list[Callable[[Mortal, dict[str, Any], str], Iterator[None]]] = [
    objects,
    overwritten,
    uploads,
    events,
    others,
]


def work_until_death(mortal: Mortal, kept: dict[str, Any], tag: str, most_seconds: float) -> None:
    """Do everything at once, each in a thread, until the server is gone."""

    def endure(work: Callable[[Mortal, dict[str, Any], str], Iterator[None]]) -> tuple[float, str]:
        try:
            for _ in work(mortal, kept, tag):
                pass
        except (BotoCoreError, ClientError, KeyError) as error:
            # boto3 takes an answer that breaks off for one without its members.
            return time.monotonic(), repr(error)
        raise AssertionError("it ended by itself")

    killer = threading.Timer(random.uniform(0.1, most_seconds), mortal.kill)
    killer.start()
    with ThreadPoolExecutor(len(WORK)) as pool:
        ends = list(pool.map(endure, WORK))
    killer.join()
    assert not [error for at, error in ends if at < mortal.killed], "refused while the server lived"


def test_nothing_acknowledged_is_missing_after_kill_9_at_any_moment(mortal: Mortal) -> None:
    for service in ("s3", "logs", "iam", "sqs", "events", "cloudwatch"):
        mortal.client(service)  # So that no time is lost later.
    for name in ("versioned", "plain"):
        place = {"LocationConstraint": "eu-central-1"}
        mortal.client("s3").create_bucket(Bucket=name, CreateBucketConfiguration=place)
    mortal.client("s3").put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    mortal.client("logs").create_log_group(logGroupName="group")
    begun, everything, rounds = time.monotonic(), dict[str, Any](), 0

    def wanting() -> bool:
        return rounds <= 3 or not {key.split()[0] for key in everything} >= KINDS

    while (passed := time.monotonic() - begun) < SECONDS or (passed < ENOUGH and wanting()):
        kept: dict[str, Any] = {}
        # Later, should the server not live long enough for the last of what is done.
        work_until_death(mortal, kept, f"round-{rounds}", 1.2 if passed < SECONDS else 5)
        mortal.start()
        check(mortal, kept)
        everything.update(kept)
        rounds += 1
    check(mortal, dict(random.sample(sorted(everything.items(), key=lambda item: item[0]), min(200, len(everything)))))
    assert not wanting(), (rounds, {key.split()[0] for key in everything})
    named = " ".join(
        files for (files,) in sqlite3.connect(mortal.state / "moto.sqlite").execute("SELECT files FROM units")
    )
    assert {path.name for path in (mortal.state / "objects").iterdir()} == set(named.split())


def check(mortal: Mortal, kept: dict[str, Any]) -> None:
    def holds(item: tuple[str, Any]) -> str | None:
        try:
            return None if item[1](mortal) else f"{item[0]} is not as it was"
        except ClientError as error:
            return f"{item[0]}: {error}"

    with ThreadPoolExecutor(4) as pool:
        assert not [problem for problem in pool.map(holds, kept.items()) if problem]


def test_settings_of_buckets_and_objects_outlive_the_server(mortal: Mortal) -> None:
    s3, place = mortal.client("s3"), {"Bucket": "own"}
    s3.create_bucket(**place, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    rule = {"ID": "old", "Status": "Enabled", "Filter": {"Prefix": "tmp/"}, "Expiration": {"Days": 3}}
    s3.put_bucket_lifecycle_configuration(**place, LifecycleConfiguration={"Rules": [rule]})
    s3.put_bucket_policy(**place, Policy=json.dumps({"Version": "2012-10-17", "Statement": []}))
    s3.put_bucket_tagging(**place, Tagging={"TagSet": [{"Key": "of", "Value": "bucket"}]})
    s3.put_bucket_versioning(**place, VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(**place, Key="key", Body=b"1", Metadata={"who": "me"}, StorageClass="STANDARD_IA")
    s3.put_object_tagging(**place, Key="key", Tagging={"TagSet": [{"Key": "of", "Value": "first"}]})
    s3.delete_object(**place, Key="key")
    s3.create_bucket(Bucket="gone", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.delete_bucket(Bucket="gone")
    mortal.again()
    s3 = mortal.client("s3")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["own"]
    assert s3.get_bucket_lifecycle_configuration(**place)["Rules"][0]["Expiration"] == {"Days": 3}
    assert json.loads(s3.get_bucket_policy(**place)["Policy"])["Statement"] == []
    assert s3.get_bucket_tagging(**place)["TagSet"] == [{"Key": "of", "Value": "bucket"}]
    listed = s3.list_object_versions(**place)
    assert (len(listed["Versions"]), len(listed["DeleteMarkers"])) == (1, 1)
    version = {**place, "Key": "key", "VersionId": first["VersionId"]}
    answer = s3.get_object(**version)
    assert (answer["Body"].read(), answer["Metadata"], answer["StorageClass"]) == (b"1", {"who": "me"}, "STANDARD_IA")
    assert s3.get_object_tagging(**version)["TagSet"] == [{"Key": "of", "Value": "first"}]
    s3.delete_object(**place, Key="key", VersionId=listed["DeleteMarkers"][0]["VersionId"])
    mortal.again()
    assert mortal.client("s3").get_object(**place, Key="key")["Body"].read() == b"1"


def test_keys_parameters_topics_and_stacks_outlive_the_server(mortal: Mortal) -> None:
    kms, topics = mortal.client("kms"), mortal.client("sns")
    key = kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
    signing = {"KeyId": key, "Message": b"text", "SigningAlgorithm": "RSASSA_PSS_SHA_256"}
    signature = kms.sign(**signing)["Signature"]
    mortal.client("ssm").put_parameter(Name="name", Value="value", Type="String")
    topic = topics.create_topic(Name="topic")["TopicArn"]
    queue = mortal.client("sqs").create_queue(QueueName="queue")["QueueUrl"]
    arn = "arn:aws:sqs:eu-central-1:123456789012:queue"
    topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    group = {"Type": "AWS::Logs::LogGroup", "Properties": {"LogGroupName": "stacked"}}
    template = json.dumps({"Resources": {"Group": group}})
    mortal.client("cloudformation").create_stack(StackName="stack", TemplateBody=template)
    mortal.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="session")
    mortal.again()
    assert mortal.client("kms").verify(**signing, Signature=signature)["SignatureValid"]
    assert mortal.client("ssm").get_parameter(Name="name")["Parameter"]["Value"] == "value"
    # A call to one service that changes another saves the other too.
    mortal.client("sns").publish(TopicArn=topic, Message="through the topic")
    mortal.again()
    message = mortal.client("sqs").receive_message(QueueUrl=queue)["Messages"][0]
    assert json.loads(message["Body"])["Message"] == "through the topic"
    stacks = mortal.client("cloudformation")
    assert stacks.describe_stacks(StackName="stack")["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    stacks.delete_stack(StackName="stack")
    assert mortal.client("logs").describe_log_groups()["logGroups"] == []
    assert "not saved" not in (mortal.state / "server.log").read_text()


def test_log_events_go_on_where_they_ended_and_go_with_their_group(mortal: Mortal) -> None:
    place = {"logGroupName": "group", "logStreamName": "a/b"}
    mortal.client("logs").create_log_group(logGroupName="group")
    mortal.client("logs").create_log_stream(**place)
    for number in range(4):
        event = {"timestamp": now(), "message": f"line {number}"}
        mortal.client("logs").put_log_events(**place, logEvents=[event])
        if number % 2:
            mortal.again()
    logs = mortal.client("logs")
    found = logs.filter_log_events(logGroupName="group")["events"]
    assert [event["message"] for event in found] == [f"line {number}" for number in range(4)]
    assert len({event["eventId"] for event in found}) == 4
    logs.delete_log_group(logGroupName="group")
    assert {kind for _, kind, _ in mortal.units()} == {""}
    with sqlite3.connect(mortal.state / "moto.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM pieces").fetchone() == (0,)


def test_reading_writes_nothing(mortal: Mortal) -> None:
    s3, logs = mortal.client("s3"), mortal.client("logs")
    s3.create_bucket(Bucket="own", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.put_object(Bucket="own", Key="key", Body=b"body")
    logs.create_log_group(logGroupName="group")
    mortal.client("iam").create_role(RoleName="role", AssumeRolePolicyDocument="{}")
    with sqlite3.connect(mortal.state / "moto.sqlite") as connection:
        # It counts what other connections commit.
        before = connection.execute("PRAGMA data_version").fetchone()
        s3.get_object(Bucket="own", Key="key")["Body"].read()
        s3.list_objects_v2(Bucket="own")
        logs.describe_log_groups()
        mortal.client("iam").get_role(RoleName="role")
        assert connection.execute("PRAGMA data_version").fetchone() == before
        s3.put_object(Bucket="own", Key="key", Body=b"other")
        assert connection.execute("PRAGMA data_version").fetchone() != before


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this system does not count what a process uses")
def test_a_call_writes_no_more_when_much_is_stored(mortal: Mortal) -> None:
    s3, logs = mortal.client("s3"), mortal.client("logs")
    s3.create_bucket(Bucket="own", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    place = {"logGroupName": "group", "logStreamName": "stream"}
    logs.create_log_group(logGroupName="group")
    logs.create_log_stream(**place)

    def written() -> int:
        lines = Path(f"/proc/{mortal.server.pid}/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("wchar"))

    def put(key: str) -> None:
        s3.put_object(Bucket="own", Key=key, Body=b"body")

    put("first")
    for number in range(20):
        stamped = [{"timestamp": now(), "message": f"line {line} of {number}"} for line in range(1000)]
        logs.put_log_events(**place, logEvents=stamped)
        for key in range(10):
            put(f"{number}/{key}")
    before = written()
    logs.put_log_events(**place, logEvents=[{"timestamp": now(), "message": "one more"}])
    put("last")
    assert written() - before < 150_000  # Pages of 4 KB; 20,000 lines are more than a million.


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: sqlite3.connect(path).executescript("UPDATE layout SET text = 'moto 0.1'"), "by moto 0.1, and"),
        (lambda path: path.write_bytes(b"no database at all" * 100), "not a database"),
        (lambda path: path.unlink(), "without what moto held"),
    ],
)
def test_a_state_of_another_kind_is_refused_and_left_alone(
    mortal: Mortal, spoil: Callable[[Path], Any], reason: str
) -> None:
    mortal.client("s3").create_bucket(Bucket="own", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    mortal.client("s3").put_object(Bucket="own", Key="key", Body=b"body")
    control.stop(mortal.state)
    spoil(mortal.state / "moto.sqlite")
    with pytest.raises(ServerError, match=f"{reason}.*; move or remove {mortal.state} to begin"):
        mortal.start()
    assert [path.read_bytes() for path in (mortal.state / "objects").iterdir()] == [b"body"]
