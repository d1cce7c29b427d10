"""The rules of job inputs and outputs, against a real server."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.local.jobs import objects


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


def test_a_manifest_that_names_the_machines_own_paths_stays_below_the_folder(
    s3: Any, bucket: str, tmp_path: Path
) -> None:
    """AWS puts prefix and path together as they are, so a path may begin with the slash between them."""
    put(s3, bucket, f"data{tmp_path}/stolen")
    manifest = [{"prefix": f"s3://{bucket}/data"}, f"{tmp_path}/stolen"]
    s3.put_object(Bucket=bucket, Key="m.json", Body=json.dumps(manifest))
    objects.download(s3, f"s3://{bucket}/m.json", tmp_path / "in", "ManifestFile")
    assert list(files(tmp_path)) == [f"in{tmp_path}/stolen"]


def test_an_upload_keeps_relative_paths(s3: Any, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    assert objects.Mirror(s3, tmp_path, f"s3://{bucket}/out/").sync() == 2
    assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["out/b", "out/deep/a"]


def test_a_mirror_copies_again_only_what_changed_and_removes_nothing(s3: Any, bucket: str, tmp_path: Path) -> None:
    mirror = objects.Mirror(s3, tmp_path, f"s3://{bucket}/out")
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("2")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    assert mirror.sync() == 2
    assert mirror.sync() == 0
    (tmp_path / "a").write_text("11")
    (tmp_path / "b").unlink()
    assert mirror.sync() == 1
    objects.download(s3, f"s3://{bucket}/out", tmp_path / "back")
    assert files(tmp_path / "back") == {"a": "11", "b": "2"}


def test_what_a_mirror_restored_is_not_copied_back(s3: Any, bucket: str, tmp_path: Path) -> None:
    mirror = objects.Mirror(s3, tmp_path / "new", f"s3://{bucket}/c")
    mirror.restore()
    assert list((tmp_path / "new").iterdir()) == []
    put(s3, bucket, "c/a", "c/deep/b", "c-not/d")
    mirror.restore()
    assert files(tmp_path / "new") == {"a": "c/a", "deep/b": "c/deep/b"}
    assert mirror.sync() == 0


def test_a_file_that_grows_while_it_is_copied_harms_nothing(s3: Any, bucket: str, tmp_path: Path) -> None:
    path, done = tmp_path / "log", threading.Event()
    path.write_bytes(b"x" * 9_000_000)

    def grow() -> None:
        while not done.is_set():
            with path.open("ab") as file:
                file.write(b"x" * 10_000)

    writer = threading.Thread(target=grow)
    mirror = objects.Mirror(s3, tmp_path, f"s3://{bucket}/out")
    writer.start()
    try:
        assert mirror.sync() == 1
    finally:
        done.set()
        writer.join()
    assert mirror.sync() == 1
    assert s3.head_object(Bucket=bucket, Key="out/log")["ContentLength"] == path.stat().st_size


def test_an_upload_to_nowhere_names_the_place(s3: Any, tmp_path: Path) -> None:
    for name, size in (("small", 1), ("large", 9_000_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"x" * size)
        with pytest.raises(objects.TransferFailed, match=r"s3://no-such-bucket/x/file cannot be written"):
            objects.Mirror(s3, tmp_path / name, "s3://no-such-bucket/x").sync()


def test_one_archive_holds_what_several_folders_do(s3: Any, bucket: str, tmp_path: Path) -> None:
    for host in ("one", "two"):
        (tmp_path / host).mkdir()
        (tmp_path / host / f"part-{host}").write_text(host)
    objects.upload_archive(s3, [tmp_path / "one", tmp_path / "two"], f"s3://{bucket}/model.tar.gz")
    objects.unpack(s3, f"s3://{bucket}/model.tar.gz", tmp_path / "back")
    assert files(tmp_path / "back") == {"part-one": "one", "part-two": "two"}


def test_an_archive_comes_back_as_it_was(s3: Any, bucket: str, tmp_path: Path) -> None:
    (tmp_path / "model" / "1").mkdir(parents=True)
    (tmp_path / "model" / "1" / "weights").write_text("w")
    objects.upload_archive(s3, [tmp_path / "model"], f"s3://{bucket}/model.tar.gz")
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
