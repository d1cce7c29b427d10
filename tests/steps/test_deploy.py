"""One endpoint's life in the embedded SageMaker, in the order of the file: a test begins where the one before ended."""

import io
import json
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import deploy

pytestmark = pytest.mark.integration

ENDPOINT, GROUP, BUCKET = "signs-under-test", "signs-under-test", "deploy-test"
ROLE = "arn:aws:iam::123456789012:role/serving"
HANDLER = Path(deploy.__file__).parent / "serving" / "inference.py"


class Brightness(tf.Module):
    """A classifier of two classes with the signature that training exports: bright pictures and dark ones."""

    def __init__(self, confidence: float) -> None:
        super().__init__()
        self._confidence = confidence
        self.signature = tf.function(self._classify, [tf.TensorSpec([None], tf.string, name="image_bytes")])

    def _classify(self, image_bytes):
        def mean(encoded):
            return tf.reduce_mean(tf.cast(tf.io.decode_jpeg(encoded, channels=3), tf.float32))

        bright = tf.map_fn(mean, image_bytes, fn_output_signature=tf.float32) > 127
        bright = tf.where(bright, self._confidence, 1 - self._confidence)
        probabilities = tf.stack([1 - bright, bright], axis=1)
        best, ids = tf.math.top_k(probabilities, k=2)
        names = tf.gather(tf.constant(["dark", "bright"]), ids)
        return {
            "probabilities": probabilities,
            "class_id": tf.cast(ids[:, 0], tf.int64),
            "class_name": names[:, 0],
            "probability": best[:, 0],
            "top_class_ids": tf.cast(ids, tf.int64),
            "top_class_names": names,
            "top_probabilities": best,
        }


def picture(level: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURES = {"00.png": picture(20), "01.png": picture(230)}


def golden(confidence: float) -> list[dict]:
    """What a classifier of this confidence answers, as evaluation writes it down."""
    return [
        {"file": "00.png", "class_id": 0, "class_name": "dark", "probability": confidence},
        {"file": "01.png", "class_id": 1, "class_name": "bright", "probability": confidence},
    ]


class World:
    """The registry, the endpoint and the step, as the tests use them."""

    def __init__(self, client, folder: Path) -> None:
        self._folder = folder
        self.sagemaker, self.runtime, self.s3 = map(client, ("sagemaker", "sagemaker-runtime", "s3"))
        self.s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        self.sagemaker.create_model_package_group(ModelPackageGroupName=GROUP)

    def put_model(self, confidence: float) -> str:
        """Upload a servable archive and return its address."""
        module, folder = Brightness(confidence), self._folder / f"model-{confidence}"
        tf.saved_model.save(module, str(folder / "1"), signatures={"serving_default": module.signature})
        (folder / "code").mkdir()
        shutil.copyfile(HANDLER, folder / "code" / "inference.py")
        return self._pack(folder)

    def put_broken_model(self) -> str:
        folder = self._folder / "broken"
        folder.mkdir()
        (folder / "readme.txt").write_text("no model here")
        return self._pack(folder)

    def _pack(self, folder: Path) -> str:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for path in folder.iterdir():
                archive.add(path, path.name)
        self.s3.put_object(Bucket=BUCKET, Key=f"{folder.name}/model.tar.gz", Body=buffer.getvalue())
        return f"s3://{BUCKET}/{folder.name}/model.tar.gz"

    def put_golden(self, name: str, content: object) -> str:
        for file, body in {**PICTURES, "golden.json": json.dumps(content).encode()}.items():
            self.s3.put_object(Bucket=BUCKET, Key=f"{name}/golden/{file}", Body=body)
        return f"s3://{BUCKET}/{name}/golden"

    def register(self, model: str, properties: dict[str, str], status: str = "Approved") -> str:
        registered = self.sagemaker.create_model_package(
            ModelPackageGroupName=GROUP,
            ModelApprovalStatus=status,
            InferenceSpecification={
                "Containers": [{"Image": "serving", "ModelDataUrl": model}],
                "SupportedContentTypes": ["image/png"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
            CustomerMetadataProperties=properties,
        )
        return str(registered["ModelPackageArn"])

    def approve(self, arn: str, status: str = "Approved") -> None:
        self.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status)

    def status(self, arn: str) -> tuple[str, str]:
        package = self.sagemaker.describe_model_package(ModelPackageName=arn)
        return package["ModelApprovalStatus"], package.get("ApprovalDescription", "")

    def deploy(self, output: Path) -> int:
        options = {
            "model-package-group": GROUP,
            "endpoint-name": ENDPOINT,
            "role-arn": ROLE,
            "output-dir": str(output),
        }
        return deploy.main([f"--{name}={value}" for name, value in options.items()])

    def endpoint(self) -> dict | None:
        """Describe the endpoint, with the package that it serves; ``None`` if there is none."""
        if not self.sagemaker.list_endpoints(NameContains=ENDPOINT)["Endpoints"]:
            return None
        described = self.sagemaker.describe_endpoint(EndpointName=ENDPOINT)
        config = self.sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
        (variant,) = config["ProductionVariants"]
        model = self.sagemaker.describe_model(ModelName=variant["ModelName"])
        del described["ResponseMetadata"]
        return {**described, "package": model["PrimaryContainer"]["ModelPackageName"]}

    def serving(self) -> str | None:
        """Return the package that serves, of an endpoint that is in service."""
        described = self.endpoint()
        assert described is None or described["EndpointStatus"] == "InService"
        return None if described is None else described["package"]

    def ask(self, body: bytes) -> dict:
        answer = self.runtime.invoke_endpoint(EndpointName=ENDPOINT, ContentType="image/png", Body=body)
        return json.loads(answer["Body"].read())["predictions"][0]


@pytest.fixture(scope="module")
def world(client, tmp_path_factory):
    world = World(client, tmp_path_factory.mktemp("models"))
    yield world
    if world.endpoint():
        world.sagemaker.delete_endpoint(EndpointName=ENDPOINT)


@pytest.fixture(scope="module")
def sure(world):
    """A model that answers with 0.9."""
    return world.put_model(0.9)


@pytest.fixture(scope="module")
def unsure(world):
    """A model that answers with 0.7."""
    return world.put_model(0.7)


@pytest.fixture(scope="module")
def versions() -> dict[str, str]:
    """ARNs of the versions that a test leaves for those after it."""
    return {}


@pytest.fixture(autouse=True)
def quick(embedded, monkeypatch):
    monkeypatch.setattr(deploy, "POLL_SECONDS", 0.1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", embedded.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", embedded.region)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")


def line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_without_an_approved_version_no_endpoint_is_made(world, sure, tmp_path, capsys):
    world.register(sure, {deploy.GOLDEN_KEY: world.put_golden("waiting", golden(0.9))}, "PendingManualApproval")
    assert world.deploy(tmp_path) == 1
    assert f"no version in {GROUP} is approved" in line(capsys)
    assert world.endpoint() is None
    assert list(tmp_path.iterdir()) == []


def test_a_first_version_that_answers_wrong_does_not_stay(world, sure, tmp_path, capsys):
    arn = world.register(sure, {deploy.GOLDEN_KEY: world.put_golden("first", golden(0.7))})
    assert world.deploy(tmp_path) == 1
    reason = "00.png: the endpoint answers dark (0.900), evaluation said dark (0.700)"
    assert line(capsys) == f"{reason}\n"
    assert world.endpoint() is None
    assert world.status(arn) == ("Rejected", f"rejected by deployment: {reason}")
    assert list(tmp_path.iterdir()) == []


def test_the_first_deployment_makes_an_endpoint_that_answers(world, sure, versions, tmp_path):
    versions["old"] = world.register(sure, {deploy.GOLDEN_KEY: world.put_golden("old", golden(0.9))})
    assert world.deploy(tmp_path) == 0
    assert world.serving() == versions["old"]
    assert world.ask(PICTURES["01.png"])["class_name"] == "bright"
    assert json.loads((tmp_path / "deployment.json").read_text()) == {
        "EndpointName": ENDPOINT,
        "EndpointConfigName": world.endpoint()["EndpointConfigName"],
        "ModelPackageArn": versions["old"],
        "ModelPackageVersion": 3,
    }


def test_a_repeated_deployment_changes_nothing(world, tmp_path):
    before = world.endpoint()
    assert world.deploy(tmp_path) == 0
    assert world.endpoint() == before
    assert (tmp_path / "deployment.json").is_file()


def test_two_jobs_at_once_update_to_the_newer_version_and_agree(world, unsure, versions, tmp_path):
    versions["new"] = world.register(unsure, {deploy.GOLDEN_KEY: world.put_golden("new", golden(0.7))})
    with ThreadPoolExecutor(2) as pool:
        codes = list(pool.map(world.deploy, [tmp_path / "chain", tmp_path / "event"]))
    assert codes == [0, 0]
    assert world.serving() == versions["new"]
    assert world.ask(PICTURES["01.png"])["probability"] == pytest.approx(0.7)
    first, second = ((tmp_path / name / "deployment.json").read_text() for name in ("chain", "event"))
    assert first == second


@pytest.mark.parametrize("probability", [0.5, float("nan")])
def test_a_serving_version_that_answers_otherwise_fails_the_job_and_serves_on(
    probability, world, versions, tmp_path, capsys
):
    before = world.endpoint()
    world.put_golden("new", golden(probability))
    assert world.deploy(tmp_path) == 1
    assert "the endpoint answers dark (0.700)" in line(capsys)
    assert world.endpoint() == before
    assert world.status(versions["new"])[0] == "Approved"


def test_rejecting_the_newest_version_goes_back_to_the_older_one(world, versions, tmp_path):
    world.approve(versions["new"], "Rejected")
    assert world.deploy(tmp_path) == 0
    assert world.serving() == versions["old"]
    assert world.ask(PICTURES["01.png"])["probability"] == pytest.approx(0.9)


def test_a_version_that_answers_wrong_is_rejected_and_the_old_one_serves_again(
    world, unsure, versions, tmp_path, capsys
):
    swapped = [{**row, "class_id": 1 - row["class_id"]} for row in golden(0.7)]
    arn = world.register(unsure, {deploy.GOLDEN_KEY: world.put_golden("swapped", swapped)})
    assert world.deploy(tmp_path) == 1
    assert "00.png: the endpoint answers dark" in line(capsys)
    assert world.serving() == versions["old"]
    assert world.ask(PICTURES["01.png"])["probability"] == pytest.approx(0.9)
    status, reason = world.status(arn)
    assert status == "Rejected"
    assert reason.startswith("rejected by deployment: 00.png: the endpoint answers dark")


def test_a_version_that_does_not_start_is_rejected_and_the_old_one_serves_on(world, versions, tmp_path, capsys):
    arn = world.register(world.put_broken_model(), {deploy.GOLDEN_KEY: world.put_golden("broken", golden(0.9))})
    assert world.deploy(tmp_path) == 1
    assert "did not pass the ping health check" in line(capsys)
    assert world.serving() == versions["old"]
    assert world.status(arn)[0] == "Rejected"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "has no property GoldenImages"),
        ([], "golden.json lists no picture"),
        ({}, "golden.json lists no picture"),
        ([{"file": "00.png"}], "golden.json is not what steps/evaluate.py writes"),
        (["00.png"], "golden.json is not what steps/evaluate.py writes"),
        (7, "golden.json is not what steps/evaluate.py writes"),
        ([{**golden(0.9)[0], "probability": None}], "golden.json is not what steps/evaluate.py writes"),
        ([{**golden(0.9)[0], "file": "absent.png"}], "NoSuchKey"),
    ],
    ids=["no property", "empty", "object", "no answers", "text", "number", "null", "no picture"],
)
def test_a_version_that_cannot_be_proved_is_not_tried(content, reason, world, unsure, versions, tmp_path, capsys):
    before = world.endpoint()
    properties = {} if content is None else {deploy.GOLDEN_KEY: world.put_golden("unprovable", content)}
    arn = world.register(unsure, properties)
    assert world.deploy(tmp_path) == 1
    assert reason in line(capsys)
    assert world.endpoint() == before
    # The reason may be missing rights or a missing file: a person decides what becomes of the version.
    assert world.status(arn)[0] == "Approved"
    world.approve(arn, "Rejected")


def test_without_any_approved_version_the_endpoint_serves_on(world, versions, tmp_path, capsys):
    world.approve(versions["old"], "Rejected")
    before = world.endpoint()
    assert world.deploy(tmp_path) == 1
    assert "the endpoint stays as it is" in line(capsys)
    assert world.endpoint() == before
    assert world.ask(PICTURES["01.png"])["class_name"] == "bright"


def test_an_unknown_group_is_one_line(tmp_path, capsys):
    options = ["--model-package-group=absent", f"--endpoint-name={ENDPOINT}", f"--role-arn={ROLE}"]
    assert deploy.main([*options, f"--output-dir={tmp_path}"]) == 1
    assert line(capsys).startswith("AWS refused: ")


def test_a_missing_region_is_one_line(world, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    assert world.deploy(tmp_path) == 1
    assert "region" in line(capsys)


def test_an_output_that_cannot_be_written_is_found_before_anything_is_deployed(world, tmp_path, capsys):
    (tmp_path / "out").write_text("a file stands where the folder should")
    assert world.deploy(tmp_path / "out") == 1
    assert str(tmp_path / "out") in line(capsys)
