#!/usr/bin/env python3
"""Make an endpoint serve the newest approved model package of a group, and prove that it does.

The step converges instead of obeying: it looks at the registry and the endpoint, not at who asked, so a repeated or
late request ends the same. After the update it compares the served configuration with the one that it asked for, and
sends the golden pictures, whose answers evaluation wrote down. If they come back different, the old configuration is
put back, the version is rejected with the reason, and the step fails. A version that serves already is asked too, but
nothing is changed: the step only fails.

Talks to AWS with the ordinary credential chain, or to whatever AWS_ENDPOINT_URL names.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from trafficsigns import failures
from trafficsigns.failures import StepError

logger = logging.getLogger("deploy")

GOLDEN_KEY = "GoldenImages"
"""The package's metadata property that holds the S3 prefix of its golden pictures."""

PROBABILITY_TOLERANCE = 0.01
"""How far a golden answer's probability may be off: other processors round differently, other models differ more."""

WAIT_SECONDS = 1800
POLL_SECONDS = 2.0


HEALTH_CHECK = "health check"
"""Stands in an endpoint's reason for failing when its model did not start, and not for want of quota or rights."""


class Unfit(StepError):
    """A version that cannot serve, or does not answer as it did in evaluation: the fault is its own."""


@dataclass(frozen=True)
class Target:
    """What is to serve where."""

    group: str
    endpoint: str
    role_arn: str
    instance_type: str
    instance_count: int


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; returns the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    # botocore announces where it found credentials, several times.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    target = Target(
        arguments.model_package_group,
        arguments.endpoint_name,
        arguments.role_arn,
        arguments.instance_type,
        arguments.instance_count,
    )
    return failures.run(lambda: _run(target, arguments.region, arguments.output_dir))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-package-group", required=True, help="whose newest approved version is to serve")
    parser.add_argument("--endpoint-name", required=True, help="endpoint to create or update")
    parser.add_argument("--role-arn", required=True, help="role that the model runs with")
    parser.add_argument("--instance-type", default="ml.m6i.large", help="of the endpoint (default: %(default)s)")
    parser.add_argument("--instance-count", type=int, default=1, help="of the endpoint (default: %(default)s)")
    parser.add_argument("--region", help="AWS region (default: the ordinary AWS configuration)")
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("/opt/ml/processing/output/deployment"),
        help="folder for deployment.json, which says what serves (default: %(default)s)",
    )
    return parser


def _run(target: Target, region: str | None, output_dir: Path) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    try:
        session = boto3.Session(region_name=region)
        outcome = Deployment(session, target).converge()
    except (ClientError, BotoCoreError) as error:
        raise StepError(f"AWS refused: {error}") from error
    (output_dir / "deployment.json").write_text(json.dumps(outcome, indent=1))
    logger.info("endpoint %s serves version %s", target.endpoint, outcome["ModelPackageVersion"])


class Deployment:
    """One attempt to make the endpoint serve what it should."""

    def __init__(self, session: boto3.Session, target: Target) -> None:
        self._sagemaker = session.client("sagemaker")
        self._runtime = session.client("sagemaker-runtime")
        self._s3 = session.client("s3")
        self._target = target

    def converge(self) -> dict[str, Any]:
        """Bring the endpoint to the newest approved version and return what serves.

        Raises ``StepError`` when there is no approved version, or the new one does not prove itself.
        """
        described = self._wait()
        package = self._newest_approved()
        version = package["ModelPackageVersion"]
        golden = self._golden(package)
        config = self._configuration(package)
        if described is not None and described["EndpointStatus"] == "Failed":
            # It serves nothing, and AWS lets it be deleted and no more.
            self._delete()
            described = None
        serving = None if described is None else str(described["EndpointConfigName"])
        if serving == config:
            logger.info("endpoint %s already serves version %s", self._target.endpoint, version)
            self._prove(golden)
        elif not self._change(config, first=serving is None):
            logger.info("endpoint %s is changed by somebody else", self._target.endpoint)
            return self.converge()
        else:
            self._try_out(package, golden, config, serving)
        return {
            "EndpointName": self._target.endpoint,
            "EndpointConfigName": config,
            "ModelPackageArn": package["ModelPackageArn"],
            "ModelPackageVersion": version,
        }

    def _try_out(self, package: dict[str, Any], golden: list[dict[str, Any]], config: str, old: str | None) -> None:
        """Wait for the update to ``config`` and prove it, or go back to the ``old`` configuration."""
        try:
            self._arrive(config)
            self._prove(golden)
        except (StepError, ClientError, BotoCoreError) as error:
            # Whatever kept it from proving itself: nothing unproved may serve.
            self._put_back(config, old)
            if isinstance(error, Unfit):
                self._reject(package, str(error))
            raise

    def _newest_approved(self) -> dict[str, Any]:
        pages = self._sagemaker.get_paginator("list_model_packages").paginate(
            ModelPackageGroupName=self._target.group, ModelApprovalStatus="Approved", ModelPackageType="Versioned"
        )
        approved = [package for page in pages for package in page["ModelPackageSummaryList"]]
        if not approved:
            raise StepError(f"no version in {self._target.group} is approved: approve one, the endpoint stays as it is")
        newest = max(approved, key=lambda package: package["ModelPackageVersion"])
        package: dict[str, Any] = self._sagemaker.describe_model_package(ModelPackageName=newest["ModelPackageArn"])
        return package

    def _wait(self) -> dict[str, Any] | None:
        """Wait until nobody changes the endpoint, and describe it; ``None`` where there is none."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            try:
                described: dict[str, Any] = self._sagemaker.describe_endpoint(EndpointName=self._target.endpoint)
            except ClientError as error:
                if "Could not find" in str(error):
                    return None
                raise
            if described["EndpointStatus"] in ("InService", "Failed", "UpdateRollbackFailed"):
                return described
            time.sleep(POLL_SECONDS)
        raise StepError(f"endpoint {self._target.endpoint} did not settle within {WAIT_SECONDS} s")

    def _configuration(self, package: dict[str, Any]) -> str:
        """Create the model and the endpoint configuration for a version, unless they exist, and return the name.

        Both can never be changed, so their name carries all that they are made of.
        """
        parts = [package["ModelPackageArn"], self._target.instance_type, self._target.instance_count]
        digest = hashlib.sha256(json.dumps([*parts, self._target.role_arn]).encode()).hexdigest()[:8]
        name = f"{self._target.endpoint}-v{package['ModelPackageVersion']}-{digest}"
        _create_once(
            self._sagemaker.create_model,
            ModelName=name,
            ExecutionRoleArn=self._target.role_arn,
            PrimaryContainer={"ModelPackageName": package["ModelPackageArn"]},
        )
        _create_once(
            self._sagemaker.create_endpoint_config,
            EndpointConfigName=name,
            ProductionVariants=[
                {
                    "VariantName": "AllTraffic",
                    "ModelName": name,
                    "InstanceType": self._target.instance_type,
                    "InitialInstanceCount": self._target.instance_count,
                    "InitialVariantWeight": 1.0,
                }
            ],
        )
        return name

    def _change(self, config: str, first: bool) -> bool:
        """Begin to serve a configuration; answers whether that was possible, or another job was faster."""
        change = self._sagemaker.create_endpoint if first else self._sagemaker.update_endpoint
        try:
            change(EndpointName=self._target.endpoint, EndpointConfigName=config)
        except ClientError as error:
            if "already existing" in str(error) or "in-progress" in str(error):
                return False
            raise
        return True

    def _arrive(self, config: str) -> None:
        described = self._wait()
        # A waiter is content with InService, which an endpoint is after a rollback too.
        if described is None or described["EndpointStatus"] != "InService" or described["EndpointConfigName"] != config:
            reason = (described or {}).get("FailureReason", "it was deleted or changed meanwhile")
            kind = Unfit if HEALTH_CHECK in reason else StepError
            raise kind(f"endpoint {self._target.endpoint} does not serve {config}: {reason}")

    def _golden(self, package: dict[str, Any]) -> list[dict[str, Any]]:
        """Fetch the golden pictures, each with its ``picture`` and the answer that evaluation wrote down.

        Done before anything is changed: a version that cannot be proved is not tried.
        """
        arn, prefix = package["ModelPackageArn"], package.get("CustomerMetadataProperties", {}).get(GOLDEN_KEY)
        if not prefix:
            raise StepError(f"{arn} has no property {GOLDEN_KEY}: it cannot be proved to work; reject it or set that")
        try:
            golden = [
                {
                    "file": str(row["file"]),
                    "class_id": int(row["class_id"]),
                    "class_name": str(row["class_name"]),
                    "probability": float(row["probability"]),
                    "picture": self._fetch(prefix, row["file"]),
                }
                for row in json.loads(self._fetch(prefix, "golden.json"))
            ]
        except (ValueError, KeyError, TypeError) as error:
            raise StepError(f"{prefix}/golden.json is not what steps/evaluate.py writes: {error!r}") from error
        if not golden:
            raise StepError(f"{prefix}/golden.json lists no picture: {arn} cannot be proved to work; reject it")
        return golden

    def _fetch(self, prefix: str, file: str) -> bytes:
        parsed = urlparse(prefix)
        key = f"{parsed.path.strip('/')}/{file}"
        content: bytes = self._s3.get_object(Bucket=parsed.netloc, Key=key)["Body"].read()
        return content

    def _prove(self, golden: list[dict[str, Any]]) -> None:
        """Require the answers that evaluation wrote down for the golden pictures."""
        for expected in golden:
            answer = self._ask(expected["picture"])
            near = abs(answer["probability"] - expected["probability"]) <= PROBABILITY_TOLERANCE
            if answer["class_id"] != expected["class_id"] or not near:
                raise Unfit(
                    f"{expected['file']}: the endpoint answers {answer['class_name']} ({answer['probability']:.3f}), "
                    f"evaluation said {expected['class_name']} ({expected['probability']:.3f})"
                )
        logger.info("%d golden pictures answered as in evaluation", len(golden))

    def _ask(self, picture: bytes) -> dict[str, Any]:
        try:
            answer = self._runtime.invoke_endpoint(
                EndpointName=self._target.endpoint, ContentType="image/png", Body=picture
            )
            first = json.loads(answer["Body"].read())["predictions"][0]
            return {
                "class_id": int(first["class_id"]),
                "class_name": str(first["class_name"]),
                "probability": float(first["probability"]),
            }
        except self._runtime.exceptions.ModelError as error:
            raise Unfit(f"the endpoint refuses a golden picture: {error}") from error
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise Unfit(f"the endpoint's answer to a golden picture cannot be read: {error!r}") from error

    def _put_back(self, config: str, old: str | None) -> None:
        """Let the old configuration serve instead of ``config``; where there is none, nothing serves."""
        described = self._wait()
        if described is None or described["EndpointConfigName"] != config:
            return
        if old is None:
            self._delete()
        else:
            self._sagemaker.update_endpoint(EndpointName=self._target.endpoint, EndpointConfigName=old)
            self._wait()

    def _delete(self) -> None:
        self._sagemaker.delete_endpoint(EndpointName=self._target.endpoint)
        self._wait()

    def _reject(self, package: dict[str, Any], reason: str) -> None:
        """Turn a version down, so that nothing deploys it once more."""
        self._sagemaker.update_model_package(
            ModelPackageArn=package["ModelPackageArn"],
            ModelApprovalStatus="Rejected",
            ApprovalDescription=f"rejected by deployment: {reason}"[:1024],
        )


def _create_once(create: Any, **arguments: Any) -> None:
    try:
        create(**arguments)
    except ClientError as error:
        if "already existing" not in str(error):
            raise


if __name__ == "__main__":
    raise SystemExit(main())
