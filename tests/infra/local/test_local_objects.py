"""The rules of job inputs and outputs, against a real server."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.local import objects


@pytest.fixture
def s3(client: Callable[[str], Any]) -> Any:
    return client("s3")


def put(s3: Any, bucket: str, *keys: str) -> None:
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("data/train/", {"a": "data/train/a", "deep/b": "data/train/deep/b"}),
        ("data/train/deep", {"b": "data/train/deep/b"}),
        ("data/train/a", {"a": "data/train/a"}),
        ("data/tr", {"train/a": "data/train/a", "train/deep/b": "data/train/deep/b"}),
        ("", {"data/train/a": "data/train/a", "data/train/deep/b": "data/train/deep/b"}),
    ],
)
def test_a_prefix_is_a_folder_a_file_or_the_beginning_of_names(
    s3: Any, bucket: str, tmp_path: Path, prefix: str, expected: dict[str, str]
) -> None:
    put(s3, bucket, "data/train/a", "data/train/deep/b", "data/train/empty/")
    objects.download(s3, f"s3://{bucket}/{prefix}", tmp_path)
    assert files(tmp_path) == expected


def test_keys_may_hold_characters_that_mean_something_in_urls(s3: Any, bucket: str, tmp_path: Path) -> None:
    put(s3, bucket, "a#b/c?d")
    objects.download(s3, f"s3://{bucket}/a#b", tmp_path)
    assert files(tmp_path) == {"c?d": "a#b/c?d"}


@pytest.mark.parametrize("place", ["{bucket}/none", "no-such-bucket/x"])
def test_an_input_of_nothing_is_refused_in_aws_words(s3: Any, bucket: str, tmp_path: Path, place: str) -> None:
    uri = f"s3://{place.format(bucket=bucket)}"
    with pytest.raises(objects.MissingObjects, match=f'No S3 objects found under S3 URL "{uri}"'):
        objects.download(s3, uri, tmp_path)


def test_a_manifest_names_its_files_and_its_own_bucket(s3: Any, bucket: str, tmp_path: Path) -> None:
    other = f"{bucket}-other"
    s3.create_bucket(Bucket=other, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    for key in ("p/a", "p/d/b", "p/c"):
        s3.put_object(Bucket=other, Key=key, Body=key.encode())
    manifest = [{"prefix": f"s3://{other}/p/"}, "a", "d/b"]
    s3.put_object(Bucket=bucket, Key="m.json", Body=json.dumps(manifest))
    objects.download(s3, f"s3://{bucket}/m.json", tmp_path, "ManifestFile")
    assert files(tmp_path) == {"a": "p/a", "d/b": "p/d/b"}


@pytest.mark.parametrize("body", ["{}", "[]", "no json", '["a"]'])
def test_a_broken_manifest_is_named(s3: Any, bucket: str, tmp_path: Path, body: str) -> None:
    s3.put_object(Bucket=bucket, Key="m.json", Body=body)
    with pytest.raises(ValueError, match=rf"s3://{bucket}/m\.json is no manifest"):
        objects.download(s3, f"s3://{bucket}/m.json", tmp_path, "ManifestFile")


def test_shards_share_all_objects_without_overlap(s3: Any, bucket: str, tmp_path: Path) -> None:
    put(s3, bucket, *(f"d/{number}" for number in range(5)))
    for instance in range(2):
        objects.download(s3, f"s3://{bucket}/d", tmp_path / str(instance), "S3Prefix", instance, 2)
    assert list(files(tmp_path / "0")) == ["0", "2", "4"]
    assert list(files(tmp_path / "1")) == ["1", "3"]


def test_no_object_leaves_its_folder(s3: Any, bucket: str, tmp_path: Path) -> None:
    put(s3, bucket, "d/../../x")
    with pytest.raises(ValueError, match="would leave the folder"):
        objects.download(s3, f"s3://{bucket}/d", tmp_path / "in")
    assert files(tmp_path) == {}


def test_an_upload_keeps_relative_paths(s3: Any, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    assert objects.upload(s3, tmp_path, f"s3://{bucket}/out/") == 2
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["out/b", "out/deep/a"]


def test_an_archive_comes_back_as_it_was(s3: Any, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "model" / "1").mkdir(parents=True)
    (tmp_path / "model" / "1" / "weights").write_text("w")
    objects.upload_archive(s3, tmp_path / "model", f"s3://{bucket}/model.tar.gz")
    objects.unpack(s3, f"s3://{bucket}/model.tar.gz", tmp_path / "back")
    assert files(tmp_path / "back") == {"1/weights": "w"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "model"]


def test_an_archive_cannot_write_elsewhere(s3: Any, bucket: str, tmp_path: Path) -> None:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../evil"))
    s3.put_object(Bucket=bucket, Key="evil.tar.gz", Body=body.getvalue())
    with pytest.raises(tarfile.OutsideDestinationError):
        objects.unpack(s3, f"s3://{bucket}/evil.tar.gz", tmp_path / "in")
    assert not (tmp_path / "evil").exists()
