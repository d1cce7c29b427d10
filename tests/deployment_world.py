"""The registry, an endpoint and the deployment step, as tests of the step use them."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import tensorflow as tf
from PIL import Image

import deploy

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

    def __init__(self, client, name: str, folder: Path, make_group: bool = True, place: str = "") -> None:
        """``place`` is a bucket that is there, and a prefix in it; otherwise there is a bucket of the name."""
        self.name, self._folder = name, folder
        self.bucket, _, prefix = (place or name).partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self.sagemaker, self.runtime, self.s3 = map(client, ("sagemaker", "sagemaker-runtime", "s3"))
        if not place:
            self.s3.create_bucket(Bucket=self.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        if make_group:
            self.sagemaker.create_model_package_group(ModelPackageGroupName=self.name)

    def put_model(self, confidence: float, handler: str = "", name: str = "model") -> str:
        """Upload a servable archive, its handler with more code at the end, and return its address."""
        module, folder = Brightness(confidence), self._folder / f"{name}-{confidence}"
        tf.saved_model.save(module, str(folder / "1"), signatures={"serving_default": module.signature})
        (folder / "code").mkdir()
        (folder / "code" / "inference.py").write_text(HANDLER.read_text() + handler)
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
        key = f"{self._prefix}{folder.name}/model.tar.gz"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=buffer.getvalue())
        return f"s3://{self.bucket}/{key}"

    def put_golden(self, name: str, content: object) -> str:
        for file, body in {**PICTURES, "golden.json": json.dumps(content).encode()}.items():
            self.s3.put_object(Bucket=self.bucket, Key=f"{self._prefix}{name}/golden/{file}", Body=body)
        return f"s3://{self.bucket}/{self._prefix}{name}/golden"

    def put_evaluation(self, name: str, metrics: dict[str, float]) -> dict:
        """Upload an evaluation and return the version's model metrics that point to it."""
        key = f"{name}/evaluation.json"
        self.s3.put_object(Bucket=self.name, Key=key, Body=json.dumps({"metrics": metrics}).encode())
        source = {"ContentType": "application/json", "S3Uri": f"s3://{self.name}/{key}"}
        return {"ModelMetrics": {"ModelQuality": {"Statistics": source}}}

    def register(self, model: str, properties: dict[str, str], status: str = "Approved", **more: object) -> str:
        registered = self.sagemaker.create_model_package(
            ModelPackageGroupName=self.name,
            ModelApprovalStatus=status,
            InferenceSpecification={
                "Containers": [{"Image": "serving", "ModelDataUrl": model}],
                "SupportedContentTypes": ["image/png"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
            CustomerMetadataProperties=properties,
            **more,
        )
        return str(registered["ModelPackageArn"])

    def approve(self, arn: str, status: str = "Approved", **more: str) -> None:
        self.sagemaker.update_model_package(ModelPackageArn=arn, ModelApprovalStatus=status, **more)

    def status(self, arn: str) -> tuple[str, str]:
        package = self.sagemaker.describe_model_package(ModelPackageName=arn)
        return package["ModelApprovalStatus"], package.get("ApprovalDescription", "")

    def deploy(self, output: Path, **more: object) -> int:
        options = {
            "model-package-group": self.name,
            "endpoint-name": self.name,
            "role-arn": ROLE,
            "output-dir": str(output),
            "bake-seconds": 0,
            **{name.replace("_", "-"): value for name, value in more.items()},
        }
        return deploy.main([f"--{name}={value}" for name, value in options.items()])

    def endpoint(self) -> dict | None:
        """Describe the endpoint, with the package that it serves; ``None`` if there is none."""
        if not self.sagemaker.list_endpoints(NameContains=self.name)["Endpoints"]:
            return None
        described = self.sagemaker.describe_endpoint(EndpointName=self.name)
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
        answer = self.runtime.invoke_endpoint(EndpointName=self.name, ContentType="image/png", Body=body)
        return json.loads(answer["Body"].read())["predictions"][0]


def reach(embedded, monkeypatch) -> None:
    """Let the step, run in this process, find the embedded SageMaker, and wait for it in short steps."""
    monkeypatch.setattr(deploy, "POLL_SECONDS", 0.1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", embedded.url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", embedded.region)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")


def line(capsys) -> str:
    """The one line that the step said why it failed."""
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error
