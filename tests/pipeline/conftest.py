"""A registry group of a test's own in the embedded SageMaker, as the command line sees it."""

import json
import secrets
from dataclasses import replace

import pytest

from pipeline import clouds, registry, settings


@pytest.fixture
def loaded():
    """Settings whose names nobody else uses."""
    return replace(settings.load(), name=f"signs-{secrets.token_hex(4)}")


@pytest.fixture
def place(embedded, bucket, client, loaded):
    client("sagemaker").create_model_package_group(ModelPackageGroupName=loaded.model_package_group)
    session = clouds.EndpointSession(embedded.url, embedded.region)
    return clouds.Cloud("local", session, embedded.region, bucket, clouds.LOCAL_ROLE)


@pytest.fixture
def register(place, loaded):
    """Registers a version and returns it; its evaluation is these metrics, or the text, or there is none."""

    def register(metrics, properties=None, **more):
        key = f"{secrets.token_hex(4)}/evaluation.json"
        body = metrics if isinstance(metrics, str) else json.dumps({"metrics": metrics, **more})
        request = {"CustomerMetadataProperties": properties} if properties else {}
        if metrics is not None:
            place.client("s3").put_object(Bucket=place.bucket, Key=key, Body=body)
            source = {"ContentType": "application/json", "S3Uri": f"s3://{place.bucket}/{key}"}
            request["ModelMetrics"] = {"ModelQuality": {"Statistics": source}}
        made = place.client("sagemaker").create_model_package(
            ModelPackageGroupName=loaded.model_package_group,
            InferenceSpecification={
                "Containers": [{"Image": "serving", "ModelDataUrl": "s3://bucket/model.tar.gz"}],
                "SupportedContentTypes": ["image/png"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
            **request,
        )
        return registry.by_arn(place, made["ModelPackageArn"])

    return register
