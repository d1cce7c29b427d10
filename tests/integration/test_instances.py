"""ProcessingInstanceCount through the embedded SageMaker: real processes, each with its share and its own number."""

import io
import zipfile
from dataclasses import replace

import pandas as pd
import pytest

from pipeline import clouds, datasets, definitions, executions
from pipeline.settings import load

pytestmark = pytest.mark.integration

SMALL = {"tracks_per_class": 3, "frames_per_track": 2, "test_per_class": 2}


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    loaded = load()
    return datasets.synthetic(
        replace(loaded, quickstart=replace(loaded.quickstart, **SMALL)), tmp_path_factory.mktemp("archives")
    )


@pytest.fixture(scope="module")
def prepared(embedded):
    """Run Preprocess and ValidateData on a folder with some instances, and return the manifest and how many parts."""

    def prepare(folder, instances: int):
        loaded = load()
        # Of a name of their own, or the cache would answer for another number of instances, as it does on AWS.
        settings = replace(loaded, name=f"shared-{instances}", local=replace(loaded.local, state=str(embedded.state)))
        cloud = clouds.connect("local", settings)
        found = datasets.upload(settings, cloud, folder)
        definitions.upsert(settings, cloud)
        given = {**found.parameters, "ProcessingInstanceCount": str(instances)}
        # That one part is seen whole is the steps' own tests' business.
        steps = ["Preprocess", "ValidateData"] if instances > 1 else ["Preprocess"]
        sagemaker = cloud.client("sagemaker")
        arn = sagemaker.start_pipeline_execution(
            PipelineName=settings.training_pipeline,
            PipelineParameters=[{"Name": name, "Value": value} for name, value in given.items()],
            SelectiveExecutionConfig={"SelectedSteps": [{"StepName": name} for name in steps]},
        )["PipelineExecutionArn"]
        *_, snapshot = executions.watch(cloud, arn, 0.2)
        assert snapshot.status == "Succeeded", snapshot
        described = sagemaker.describe_processing_job(ProcessingJobName=snapshot.step("Preprocess").job)
        assert described["ProcessingResources"]["ClusterConfig"]["InstanceCount"] == instances
        outputs = {
            output["OutputName"]: output["S3Output"]["S3Uri"]
            for output in described["ProcessingOutputConfig"]["Outputs"]
        }
        return cloud.client("s3"), outputs

    return prepare


def objects(s3, address: str) -> dict[str, bytes]:
    bucket, _, prefix = address.removeprefix("s3://").partition("/")
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/").get("Contents", [])
    return {
        item["Key"].removeprefix(f"{prefix}/"): s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
        for item in listed
    }


@pytest.mark.parametrize("form", ["archives", "folders"])
def test_one_and_three_instances_make_the_same_manifest(form, prepared, archives, tmp_path):
    folder = archives
    if form == "folders":
        folder = tmp_path / "signs"
        _unpack(archives, folder)
    manifests = {}
    for instances in (1, 3):
        s3, outputs = prepared(folder, instances)
        parts = {name: body for name, body in objects(s3, outputs["manifest"]).items() if name.endswith(".parquet")}
        assert sorted(parts) == [f"manifest-{number:05d}.parquet" for number in range(instances)]
        frames = [pd.read_parquet(io.BytesIO(body)) for body in parts.values()]
        assert all(len(frame) >= 43 for frame in frames)
        manifests[instances] = pd.concat(frames).sort_values("file", ignore_index=True)
        shards = [name for name in objects(s3, outputs["train"]) if name.endswith(".tfrecord")]
        assert sorted(shards) == [f"{number:05d}.tfrecord" for number in range(instances)]
    pd.testing.assert_frame_equal(manifests[1], manifests[3])
    assert set(manifests[1]["split"]) == {"train", "validation", "test"}


def _unpack(archives, folder):
    """Make a folder a class of the training images, with tracks told by their names alone."""
    with zipfile.ZipFile(archives / "GTSRB_Final_Training_Images.zip") as archive:
        for name in (each for each in archive.namelist() if each.endswith(".ppm")):
            *_, class_id, file = name.split("/")
            path = folder / class_id / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
