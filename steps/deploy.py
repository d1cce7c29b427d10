#!/usr/bin/env python3
"""Make an endpoint serve the newest approved model package of a group, and prove that it does.

The step converges instead of obeying: it looks at the registry and the endpoint, not at who asked, so a repeated, late
or crossed request ends the same, and so does one that follows a crash at any line. An update moves traffic as it is
told to, under alarms that send it back. After it the served configuration is compared with the one that was asked for,
and the golden pictures are sent, whose answers evaluation wrote down. If they come back different, the configuration
that proved itself last is put back, the version is rejected with the reason, and the step fails. A version that had
proved itself before and answers differently now is left alone: then the step only fails.

Talks to AWS with the ordinary credential chain, or to whatever AWS_ENDPOINT_URL names.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from trafficsigns import failures
from trafficsigns.failures import StepError
from trafficsigns.hosting import golden, requests, surroundings
from trafficsigns.hosting.golden import Golden, Unfit
from trafficsigns.hosting.target import UPDATE_SECONDS, Target, add_options, target_of

logger = logging.getLogger("deploy")

WAIT_SECONDS = UPDATE_SECONDS + 1800
"""How long an update may take: the longest bake times that the options allow, and the start of the instances."""
POLL_SECONDS = 2.0
TRIES = 5
"""How often somebody else may change the endpoint between our look at it and our change, before we give up."""

UNFIT = ("health check", "alarm")
"""Stand in an endpoint's reason for failing when its model is to blame, and not a want of quota or rights."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the step; returns the exit code."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    # botocore announces where it found credentials, several times.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    try:
        target = target_of(arguments)
    except ValueError as error:
        parser.error(str(error))
    return failures.run(lambda: _run(target, arguments.region, arguments.output_dir))


def _parser() -> argparse.ArgumentParser:
    # argparse takes one class: this one combines what two do.
    class Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
        """Keeps the description's lines and shows defaults."""

    parser = failures.Parser(description=__doc__, formatter_class=Formatter, allow_abbrev=False)
    add_options(parser)
    parser.add_argument("--region", help="AWS region, where the ordinary AWS configuration names another or none")
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path("/opt/ml/processing/output/deployment"),
        help="folder for deployment.json, which says what serves",
    )
    return parser


def _run(target: Target, region: str | None, output_dir: Path) -> None:
    output_dir.mkdir(parents=True, exist_ok=True)
    try:
        outcome = Deployment(boto3.Session(region_name=region), target).converge()
    except (ClientError, BotoCoreError) as error:
        raise StepError(f"AWS refused: {error}") from error
    (output_dir / "deployment.json").write_text(json.dumps(outcome, indent=1))
    logger.info("endpoint %s serves version %s", target.endpoint, outcome["ModelPackageVersion"])


class Deployment:
    """One attempt to make the endpoint serve what it should."""

    def __init__(self, session: boto3.Session, target: Target) -> None:
        self._sagemaker = session.client("sagemaker")
        self._runtime = session.client("sagemaker-runtime")
        self._cloudwatch = session.client("cloudwatch")
        self._autoscaling = session.client("application-autoscaling")
        self._s3 = session.client("s3")
        self._target = target
        self._released: tuple[int, int] | None = None
        """Between which sizes the endpoint followed its load before this took it off that."""

    def converge(self) -> dict[str, Any]:
        """Bring the endpoint to the newest approved version and return what serves.

        Raises ``StepError`` when there is no approved version, or the new one does not prove itself.
        """
        try:
            return self._converge()
        except (StepError, ClientError, BotoCoreError):
            self._scale_again()
            raise

    def _converge(self) -> dict[str, Any]:
        for _ in range(TRIES):
            serving = self._serving()
            package = self._newest_approved()
            pictures = golden.fetch(self._s3, package)
            config = self._configuration(package)
            alarms = surroundings.guard(self._cloudwatch, self._target)
            if serving == config:
                logger.info("endpoint %s serves version %s already", self._target.endpoint, _version(package))
            elif not self._change(config, requests.update(self._target, alarms), serving):
                logger.info("endpoint %s is changed by somebody else", self._target.endpoint)
                continue
            self._prove(package, pictures, config, serving)
            self._settle(config)
            return {
                "EndpointName": self._target.endpoint,
                "EndpointConfigName": config,
                "ModelPackageArn": package["ModelPackageArn"],
                "ModelPackageVersion": _version(package),
            }
        raise StepError(f"endpoint {self._target.endpoint} was changed by somebody else {TRIES} times: try again later")

    def _newest_approved(self) -> dict[str, Any]:
        pages = self._sagemaker.get_paginator("list_model_packages").paginate(
            ModelPackageGroupName=self._target.group, ModelApprovalStatus="Approved", ModelPackageType="Versioned"
        )
        approved = [package for page in pages for package in page["ModelPackageSummaryList"]]
        if not approved:
            raise StepError(f"no version in {self._target.group} is approved: approve one, the endpoint stays as it is")
        newest = max(approved, key=_version)
        package: dict[str, Any] = self._sagemaker.describe_model_package(ModelPackageName=newest["ModelPackageArn"])
        return package

    # The endpoint as it is

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

    def _serving(self) -> str | None:
        """Return the configuration that serves; ``None`` where nothing does."""
        described = self._wait()
        if described is not None and described["EndpointStatus"] == "Failed":
            # It serves nothing, and AWS lets it be deleted and no more.
            self._delete()
            return None
        return None if described is None else str(described["EndpointConfigName"])

    # Changes

    def _configuration(self, package: dict[str, Any]) -> str:
        """Create the model and the endpoint configuration for a version, unless they exist, and return the name."""
        called = requests.name(self._target, package)
        _create_once(self._sagemaker.create_model, requests.model(self._target, package, called))
        configuration = {**requests.configuration(self._target, called), **requests.tags(self._target)}
        _create_once(self._sagemaker.create_endpoint_config, configuration)
        return called

    def _change(self, config: str, update: dict[str, Any], serving: str | None) -> bool:
        """Begin to serve a configuration; answers whether that was possible, or another job was faster."""
        names = {"EndpointName": self._target.endpoint, "EndpointConfigName": config}
        try:
            if serving is None:
                self._sagemaker.create_endpoint(**names, **requests.tags(self._target))
            else:
                released = surroundings.release(self._sagemaker, self._autoscaling, self._target, serving, config)
                self._released = self._released or released
                self._sagemaker.update_endpoint(**names, **update)
        except ClientError as error:
            if "already existing" in str(error) or "in-progress" in str(error):
                return False
            if "serverless" in str(error).lower():
                raise StepError(
                    f"endpoint {self._target.endpoint} has instances and cannot become serverless: delete it, then "
                    f"deploy again ({error})"
                ) from error
            raise
        return True

    def _delete(self) -> None:
        self._sagemaker.delete_endpoint(EndpointName=self._target.endpoint)
        self._wait()

    # The proof, and what follows from it

    def _prove(self, package: dict[str, Any], pictures: list[Golden], config: str, serving: str | None) -> None:
        """Wait until a configuration serves and require its golden answers, or go back to the one before it."""
        try:
            self._arrive(config)
            golden.prove(self._runtime, self._target.endpoint, pictures)
        except (StepError, ClientError, BotoCoreError) as error:
            # What served before, and may have proved itself, does not give way to a fault of the network.
            if serving == config and (not isinstance(error, Unfit) or config in self._proven()):
                raise
            # Whatever kept a new one from proving itself: nothing unproved may serve.
            self._put_back(config, serving)
            if isinstance(error, Unfit):
                self._reject(package, str(error))
            raise
        logger.info("%d golden pictures answered as in evaluation", len(pictures))

    def _arrive(self, config: str) -> None:
        described = self._wait()
        # A waiter is content with InService, which an endpoint is after a rollback too.
        if described is None or described["EndpointStatus"] != "InService" or described["EndpointConfigName"] != config:
            reason = (described or {}).get("FailureReason", "it was deleted or changed meanwhile")
            kind = Unfit if any(word in reason for word in UNFIT) else StepError
            raise kind(f"endpoint {self._target.endpoint} does not serve {config}: {reason}")

    def _settle(self, config: str) -> None:
        """Write down that a configuration has proved itself, and bring what stands around the endpoint up to it."""
        surroundings.mark_proven(self._sagemaker, config)
        surroundings.scale(self._autoscaling, self._target)
        for old in surroundings.prune(self._sagemaker, self._target, config):
            logger.info("deleted %s, which nothing needs any more", old)

    def _proven(self) -> list[str]:
        """Return the endpoint's configurations that have proved themselves, the latest first."""
        return [each.name for each in surroundings.configurations(self._sagemaker, self._target) if each.proven]

    def _put_back(self, config: str, before: str | None) -> None:
        """Let what proved itself last serve instead of ``config``, or what served ``before``; else nothing serves."""
        candidates = [name for name in [*self._proven(), before] if name not in (config, None)]
        old = candidates[0] if candidates else None
        for _ in range(TRIES):
            described = self._wait()
            if described is None or described["EndpointConfigName"] != config:
                return
            failed = described["EndpointStatus"] == "Failed"
            if failed or old is None:
                # AWS lets a failed one be deleted and no more.
                self._delete()
            if old is None or self._change(old, requests.way_back(self._target), None if failed else config):
                self._wait()

    def _scale_again(self) -> None:
        """Let what serves after all follow its load as before, if it was taken off that for what does not."""
        if self._released is None:
            return
        try:
            surroundings.follow(self._autoscaling, self._target, self._released)
        except (ClientError, BotoCoreError) as error:
            # The first error is what people have to hear of.
            logger.warning("endpoint %s does not follow its load any more: %s", self._target.endpoint, error)

    def _reject(self, package: dict[str, Any], reason: str) -> None:
        """Turn a version down, so that nothing deploys it once more; who approved it, and why, stays behind that."""
        told, before = f"rejected by deployment: {reason}", package.get("ApprovalDescription")
        self._sagemaker.update_model_package(
            ModelPackageArn=package["ModelPackageArn"],
            ModelApprovalStatus="Rejected",
            ApprovalDescription=(f"{told} | {before}" if before else told)[:1024],
        )


def _version(package: dict[str, Any]) -> int:
    return int(package["ModelPackageVersion"])


def _create_once(create: Any, request: dict[str, Any]) -> None:
    try:
        create(**request)
    except ClientError as error:
        if "already existing" not in str(error):
            raise


if __name__ == "__main__":
    raise SystemExit(main())
