"""S3 bodies as files: whatever way they come and go, whole, checked, in little memory, and none left behind."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import secrets
import socket
import time
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from embedded_cloud import Cloud, wait_until

from infra.local import control
from infra.local.control import RunningServer

MEBIBYTE = 1 << 20


def files(server: RunningServer) -> set[str]:
    return {path.name for path in (server.state / "objects").iterdir()}


def peak_megabytes(server: RunningServer) -> float:
    lines = Path(f"/proc/{server.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RunningServer]:
    """A server whose memory and files are this test's only."""
    yield control.start(tmp_path, port=0, region="eu-central-1")
    control.stop(tmp_path)


@pytest.fixture
def s3(own: RunningServer) -> Any:
    session = boto3.Session("local", "local", region_name=own.region)
    client = session.client("s3", endpoint_url=own.url, config=Config(retries={"total_max_attempts": 1}, proxies={}))
    client.create_bucket(Bucket="own", CreateBucketConfiguration={"LocationConstraint": own.region})
    return client


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="this system does not count what a process uses")
def test_memory_stays_small_while_500_mb_pass_through(own: RunningServer, s3: Any, tmp_path: Path) -> None:
    block = os.urandom(MEBIBYTE)
    large = tmp_path / "large"
    with large.open("wb") as file:
        for _ in range(134):
            file.write(block)
    s3.upload_file(str(large), "own", "parts")
    with large.open("rb") as file:
        s3.put_object(Bucket="own", Key="one", Body=file)
    s3.copy_object(Bucket="own", Key="copy", CopySource="own/parts")
    for key in ("parts", "one", "copy"):
        s3.download_file("own", key, str(tmp_path / "back"))
        with large.open("rb") as sent, (tmp_path / "back").open("rb") as back:
            assert hashlib.file_digest(sent, "md5").digest() == hashlib.file_digest(back, "md5").digest()
    assert peak_megabytes(own) < 300
    assert sum(path.stat().st_size for path in (own.state / "objects").iterdir()) == 3 * 134 * MEBIBYTE


def test_nothing_is_left_of_what_was_deleted_overwritten_aborted_or_refused(own: RunningServer, s3: Any) -> None:
    part = b"p" * 5 * MEBIBYTE
    for body in (b"first", b"second", b""):
        s3.put_object(Bucket="own", Key="overwritten", Body=body)
    assert len(files(own)) == 1
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="own", Key="overwritten", Body=b"third", IfNoneMatch="*")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        s3.put_object(Bucket="absent", Key="key", Body=b"third")
    upload = {"Bucket": "own", "Key": "upload"}
    for end in ("abort", "complete"):
        upload["UploadId"] = s3.create_multipart_upload(Bucket="own", Key="upload")["UploadId"]
        for _ in range(2):  # The second replaces the first.
            tag = s3.upload_part(**upload, PartNumber=1, Body=part)["ETag"]
        assert len(files(own)) == 2
        if end == "abort":
            s3.abort_multipart_upload(**upload)
            assert len(files(own)) == 1
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
    assert s3.get_object(Bucket="own", Key="upload")["Body"].read() == part
    assert len(files(own)) == 2
    s3.put_bucket_versioning(Bucket="own", VersioningConfiguration={"Status": "Enabled"})
    s3.delete_object(Bucket="own", Key="upload")  # A marker, which hides the version.
    assert len(files(own)) == 2
    listed = s3.list_object_versions(Bucket="own")
    everything = [*listed["Versions"], *listed["DeleteMarkers"]]
    names = [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in everything]
    s3.delete_objects(Bucket="own", Delete={"Objects": names})
    assert not files(own)


def test_a_client_that_breaks_off_leaves_nothing(own: RunningServer, s3: Any) -> None:
    with socket.create_connection(urlsplit(own.url).netloc.split(":")) as connection:
        connection.sendall(b"PUT /own/key HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nonly this")
        wait_until(lambda: files(own), bool)
        # Somebody else is not kept waiting by it.
        s3.put_object(Bucket="own", Key="other", Body=b"")
    wait_until(lambda: files(own), lambda found: len(found) == 1)
    with pytest.raises(ClientError, match="NoSuchKey"):
        s3.get_object(Bucket="own", Key="key")


def test_bodies_that_nothing_names_are_removed_at_the_start(own: RunningServer, s3: Any) -> None:
    s3.put_object(Bucket="own", Key="kept", Body=b"kept")
    control.stop(own.state)
    for name in ("0123.incoming", "0" * 32):
        (own.state / "objects" / name).write_bytes(b"left by a crash")
    control.start(own.state, port=0, region="eu-central-1")
    assert [path.read_bytes() for path in (own.state / "objects").iterdir()] == [b"kept"]


@pytest.mark.parametrize("size", [0, 1, 3 * MEBIBYTE + 7])
def test_a_body_comes_back_with_its_tag_and_length(cloud: Cloud, size: int) -> None:
    body = os.urandom(size)
    s3, place = cloud.client("s3"), {"Bucket": cloud.bucket, "Key": "a/ü ?&%"}
    stored = s3.put_object(**place, Body=body, ContentType="text/x-own", Metadata={"who": "me"})
    answer = s3.get_object(**place)
    assert answer["Body"].read() == body
    assert stored["ETag"] == answer["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert (answer["ContentLength"], answer["ContentType"], answer["Metadata"]) == (size, "text/x-own", {"who": "me"})
    assert s3.head_object(**place)["ContentLength"] == size


@pytest.mark.parametrize(
    ("asked", "expected", "shown"),
    [
        ("bytes=2-4", b"234", "bytes 2-4/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=8-99", b"89", "bytes 8-9/10"),
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=1-2,4-5", b"0123456789", None),
    ],
)
def test_a_range_is_that_part_of_the_file(cloud: Cloud, asked: str, expected: bytes, shown: str | None) -> None:
    cloud.put({"key": b"0123456789"})
    answer = cloud.client("s3").get_object(Bucket=cloud.bucket, Key="key", Range=asked)
    assert (answer["Body"].read(), answer.get("ContentRange")) == (expected, shown)


def test_a_range_beyond_the_end_and_unmet_conditions_are_refused(cloud: Cloud) -> None:
    cloud.put({"key": b"0123456789"})
    s3, place = cloud.client("s3"), {"Bucket": cloud.bucket, "Key": "key"}
    with pytest.raises(ClientError, match="InvalidRange"):
        s3.get_object(**place, Range="bytes=10-")
    tag = s3.head_object(**place)["ETag"]
    with pytest.raises(ClientError, match="304"):
        s3.get_object(**place, IfNoneMatch=tag)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.get_object(**place, IfMatch='"other"')
    assert s3.get_object(**place, IfMatch=tag)["Body"].read() == b"0123456789"


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_checksums_hold_for_one_part_many_parts_and_copies(cloud: Cloud, algorithm: str) -> None:
    s3, body = cloud.client("s3"), os.urandom(9 * MEBIBYTE)
    for key, put in (("one", s3.put_object), ("many", None)):
        if put:
            put(Bucket=cloud.bucket, Key=key, Body=body, ChecksumAlgorithm=algorithm)
        else:
            s3.upload_fileobj(BytesIO(body), cloud.bucket, key, ExtraArgs={"ChecksumAlgorithm": algorithm})
        s3.copy_object(Bucket=cloud.bucket, Key=f"{key}-copy", CopySource=f"{cloud.bucket}/{key}")
        for name in (key, f"{key}-copy"):
            # boto3 compares the checksum itself where there is one of the whole.
            answer = s3.get_object(Bucket=cloud.bucket, Key=name, ChecksumMode="ENABLED")
            assert answer["Body"].read() == body
            assert answer[f"Checksum{algorithm}"]


def test_the_checksum_of_a_whole_upload_is_of_its_bytes(cloud: Cloud) -> None:
    s3, body = cloud.client("s3"), os.urandom(6 * MEBIBYTE)
    place = {"Bucket": cloud.bucket, "Key": "key"}
    started = s3.create_multipart_upload(**place, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    upload = {**place, "UploadId": started["UploadId"]}
    parts = [
        {"PartNumber": number, "ETag": s3.upload_part(**upload, PartNumber=number, Body=part)["ETag"]}
        for number, part in enumerate((body[: 5 * MEBIBYTE], body[5 * MEBIBYTE :]), start=1)
    ]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
    expected = base64.b64encode(zlib.crc32(body).to_bytes(4, "big")).decode()
    assert s3.head_object(**place, ChecksumMode="ENABLED")["ChecksumCRC32"] == expected


def test_a_part_can_be_a_range_of_another_object(cloud: Cloud) -> None:
    s3 = cloud.client("s3")
    cloud.put({"source": b"0123456789"})
    upload = {"Bucket": cloud.bucket, "Key": "key"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    source = {"CopySource": f"{cloud.bucket}/source", "CopySourceRange": "bytes=3-5"}
    tag = s3.upload_part_copy(**upload, PartNumber=1, **source)["CopyPartResult"]["ETag"]
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
    assert cloud.get(cloud.s3("key")) == b"345"


def test_chunks_with_a_trailer_are_decoded_and_broken_ones_refused(cloud: Cloud, embedded: RunningServer) -> None:
    address = urlsplit(embedded.url).netloc
    checksum = base64.b64encode(zlib.crc32(b"hello world").to_bytes(4, "big"))
    headers = {
        "x-amz-content-sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "x-amz-sdk-checksum-algorithm": "CRC32",
        "Authorization": "AWS4-HMAC-SHA256 Credential=local/20260101/eu-central-1/s3/aws4_request",
    }
    for body, status in (
        (b"6\r\nhello \r\n5\r\nworld\r\n0\r\nx-amz-checksum-crc32:" + checksum + b"\r\n\r\n", 200),
        (b"6\r\nhel", 400),
        (b"six\r\nhello \r\n0\r\n\r\n", 400),
    ):
        connection = http.client.HTTPConnection(address)
        connection.request("PUT", f"/{cloud.bucket}/key", body, headers)
        assert connection.getresponse().status == status
        connection.close()
    answer = cloud.client("s3").get_object(Bucket=cloud.bucket, Key="key", ChecksumMode="ENABLED")
    assert (answer["Body"].read(), answer["ChecksumCRC32"]) == (b"hello world", checksum.decode())


def test_a_form_stores_its_file_and_leaves_no_other(cloud: Cloud, embedded: RunningServer) -> None:
    body, boundary = os.urandom(MEBIBYTE), secrets.token_hex(8)
    form = cloud.client("s3").generate_presigned_post(cloud.bucket, "from-form")
    text = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in form["fields"].items()
    )
    head = f'{text}--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    data = head.encode() + body + f"\r\n--{boundary}--\r\n".encode()
    content_type = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    urllib.request.urlopen(urllib.request.Request(form["url"], data, content_type), timeout=10).close()
    assert cloud.get(cloud.s3("from-form")) == body
    assert not [name for name in files(embedded) if name.endswith(".incoming")]


def test_an_object_is_not_taken_for_a_form(cloud: Cloud) -> None:
    s3 = cloud.client("s3")
    s3.put_object(Bucket=cloud.bucket, Key="key", Body=b"key=1&file=2", ContentType="application/x-www-form-urlencoded")
    assert cloud.get(cloud.s3("key")) == b"key=1&file=2"


def test_who_reads_an_object_gets_it_whole_though_it_is_deleted_meanwhile(cloud: Cloud) -> None:
    s3, body = cloud.client("s3"), os.urandom(30 * MEBIBYTE)
    cloud.put({"key": body})
    stream = s3.get_object(Bucket=cloud.bucket, Key="key")["Body"]
    s3.delete_object(Bucket=cloud.bucket, Key="key")
    assert stream.read() == body


def test_a_waiting_call_does_not_keep_others_out(client: Callable[[str], Any], cloud: Cloud) -> None:
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=f"queue-{secrets.token_hex(4)}")["QueueUrl"]
    with ThreadPoolExecutor(1) as pool:
        begun = time.monotonic()
        waiting = pool.submit(sqs.receive_message, QueueUrl=url, WaitTimeSeconds=20)
        while time.monotonic() < begun + 0.5:
            cloud.put({"key": b""})
        assert not waiting.done()
        sqs.send_message(QueueUrl=url, MessageBody="at last")
        assert waiting.result()["Messages"][0]["Body"] == "at last"
        assert time.monotonic() - begun < 10
