import hashlib
import zipfile
from dataclasses import replace

import pytest
from PIL import Image

from pipeline import clouds, datasets, objects
from pipeline.datasets import DatasetError
from pipeline.settings import load


@pytest.fixture
def archives(tmp_path, monkeypatch):
    """Three small files that stand at the official address, and the folder that serves them."""
    origin = tmp_path / "origin"
    origin.mkdir()
    sums = {}
    for name in datasets.OFFICIAL_FILES:
        with zipfile.ZipFile(origin / name, "w") as archive:
            archive.writestr("content.txt", name)
        sums[name] = hashlib.md5((origin / name).read_bytes()).hexdigest()
    monkeypatch.setattr(datasets, "OFFICIAL_FILES", sums)
    monkeypatch.setattr(datasets, "OFFICIAL_ARCHIVE", origin.as_uri())
    return origin


def test_official_archives_are_fetched_whole(archives, tmp_path):
    folder = datasets.official(tmp_path / "here")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in archives.iterdir()
    }


def test_what_is_there_and_whole_is_not_fetched_again(archives, tmp_path, monkeypatch):
    folder = datasets.official(tmp_path / "here")
    monkeypatch.setattr(datasets, "OFFICIAL_ARCHIVE", (tmp_path / "gone").as_uri())
    assert datasets.official(folder) == folder
    first = sorted(folder.iterdir())[0]
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(DatasetError, match=r"gone.*Or fetch it by hand"):
        datasets.official(folder)


def test_a_damaged_download_is_refused_and_does_not_take_the_files_place(archives, tmp_path):
    damaged = sorted(archives.iterdir())[0]
    damaged.write_bytes(damaged.read_bytes() + b"!")
    with pytest.raises(DatasetError, match=r"has the MD5 sum .* instead of"):
        datasets.official(tmp_path / "here")
    assert not (tmp_path / "here" / damaged.name).exists()


def test_the_official_zips_are_taken_and_what_lies_beside_them_is_not(archives):
    (archives / "README.md").write_text("notes")
    assert {path.name for path in datasets._files(archives)} == set(datasets.OFFICIAL_FILES)


def test_a_data_sets_address_follows_its_content_and_not_its_place(archives, tmp_path):
    def digest(folder):
        return datasets._digest(folder, datasets._files(folder))

    copy = tmp_path / "copy"
    copy.mkdir()
    for path in archives.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    assert digest(copy) == digest(archives)
    with zipfile.ZipFile(sorted(copy.iterdir())[0], "a") as archive:
        archive.writestr("more.txt", "more")
    assert digest(copy) != digest(archives)


@pytest.fixture
def place(embedded):
    """The session's embedded SageMaker, with settings of a name of their own."""
    loaded = load()
    settings = replace(loaded, name="datasets", local=replace(loaded.local, state=str(embedded.state)))
    return settings, clouds.connect("local", settings)


def test_archives_go_up_as_they_are(archives, place):
    found = datasets.upload(*place, archives)
    assert found.parameters == {"InputData": found.address}
    assert datasets.existing(*place, f"{found.address}/") == found


def test_on_aws_a_bucket_that_no_job_may_read_is_refused_before_anything_is_started(place):
    settings, local = place
    cloud = replace(local, kind="aws")
    with pytest.raises(datasets.DatasetError, match=rf"not in {cloud.bucket}.*\[aws.job_roles\] preprocess"):
        datasets.existing(settings, cloud, "s3://elsewhere/gtsrb")
    # Somebody's own role may read what it may; here there is nothing to read.
    roles = replace(settings.aws.job_roles, preprocess="arn:aws:iam::123456789012:role/mine")
    with pytest.raises(datasets.DatasetError, match="holds no objects"):
        datasets.existing(replace(settings, aws=replace(settings.aws, job_roles=roles)), cloud, "s3://elsewhere/gtsrb")


def test_pictures_go_up_in_two_parts_which_are_found_again_by_their_common_prefix(place, tmp_path):
    for name in ("stop/1.png", "stop/2.png", "give way/1.png", ".hidden/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (20, 20), (len(name), 0, 0)).save(tmp_path / name)
    found = datasets.upload(*place, tmp_path)
    root = found.address.removesuffix("/listing")
    assert found.parameters == {"InputData": f"{root}/listing", "InputImages": f"{root}/images"}
    assert datasets.existing(*place, root) == found
    assert datasets.existing(*place, found.address) == found, "what `signs run` prints can be given again"
    listed = objects.keys(place[1].client("s3"), place[1].bucket, root.removeprefix(f"s3://{place[1].bucket}/"))
    prefix = root.partition("/datasets/")[2]
    assert sorted(key.partition(f"{prefix}/")[2] for key in listed) == [
        "images/give way/1.png",
        "images/stop/1.png",
        "images/stop/2.png",
        "listing/dataset.json",
        "listing/listing.parquet",
    ]


def test_an_address_is_taken_as_it_is_whatever_letters_it_has():
    assert objects.split("s3://bucket/data#2/a?b=c/") == ("bucket", "data#2/a?b=c")
    assert objects.split("s3://bucket") == ("bucket", "")


def test_archives_in_a_folder_that_happens_to_be_called_listing_stay_there(place):
    cloud = place[1]
    cloud.client("s3").put_object(Bucket=cloud.bucket, Key="mine/listing/GTSRB_Final_Test_GT.zip", Body=b"zip")
    for address in (f"s3://{cloud.bucket}/mine/listing", f"s3://{cloud.bucket}/mine/listing/"):
        assert datasets.existing(*place, address) == datasets.Dataset(f"s3://{cloud.bucket}/mine/listing")
    assert datasets.existing(*place, f"s3://{cloud.bucket}") == datasets.Dataset(f"s3://{cloud.bucket}")


def test_pictures_that_are_in_no_folder_of_a_class_are_refused_before_anything_is_sent(place, tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/1.png", "lost.png"):
        Image.new("RGB", (20, 20)).save(tmp_path / name)
    with pytest.raises(DatasetError, match=r"lost\.png lies in no folder of a class"):
        datasets.upload(*place, tmp_path)
    prefix = f"datasets/data/{datasets._digest(tmp_path, datasets._files(tmp_path))}"
    assert list(objects.keys(place[1].client("s3"), place[1].bucket, prefix)) == []
