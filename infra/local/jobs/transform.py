"""Transform jobs: a model's answers to every object under a prefix, without an endpoint."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx

from infra.local.endpoints.variants import ModelServer, UnservableModel, archive_of
from infra.local.jobs import objects
from infra.local.jobs.container import JobLog
from infra.local.jobs.job import Job, JobContext, refuse_members, require
from infra.local.service import now, refuse
from infra.local.store import Record

MEGABYTE = 1024 * 1024

DEFAULT_PAYLOAD = 6
"""Megabytes of a request, SageMaker's default, and the most that the model server takes."""

DEFAULT_TIMEOUT_SECONDS = 600


class BadAnswer(Exception):
    """An object that the model does not answer; the text is a ``FailureReason``."""


class Over(Exception):
    """A request that is not sent any more."""


class TransformJob(Job):
    """A transform job: objects in, for each of them an object of answers out.

    One model server answers whatever the instance count: more of them would give the same answers.
    Source: API reference, CreateTransformJob; developer guide, "Use Your Own Inference Code with Batch Transform".
    """

    kind = "TransformJob"
    arn_kind = "transform-job"
    log_group = "/aws/sagemaker/TransformJobs"
    times = ("TransformStartTime", "TransformEndTime")

    def __init__(self, context: JobContext, request: Record) -> None:
        super().__init__(context, request)
        self._input: Record = request["TransformInput"]
        self._output: Record = request["TransformOutput"]
        self._source: Record = self._input["DataSource"]["S3DataSource"]
        self._split = self._input.get("SplitType", "None")
        self._payload = int(request.get("MaxPayloadInMB", DEFAULT_PAYLOAD)) * MEGABYTE
        self._parallel = int(request.get("MaxConcurrentTransforms", 0)) or 1
        self._server: ModelServer | None = None
        self._over = threading.Event()
        """Set when no further request makes sense: the job was stopped, or an object failed."""

    def refuse_unsupported(self) -> None:
        """Refuse what is neither whole objects nor lines, and models that do not exist."""
        request = self.request
        require("TransformInput", self._input, SplitType=("None", "Line"), CompressionType=("None",))
        require("S3DataSource", self._source, S3DataType=("S3Prefix", "ManifestFile"))
        require("TransformOutput", self._output, AssembleWith=("None", "Line"))
        require("DataProcessing", request.get("DataProcessing", {}), InputFilter=("$",), OutputFilter=("$",))
        require("DataProcessing", request.get("DataProcessing", {}), JoinSource=("None",))
        require("The request", request, MaxPayloadInMB=tuple(range(DEFAULT_PAYLOAD, 0, -1)))
        refuse_members("The request", request, "DataCaptureConfig")
        if self._parallel * self._payload > 100 * MEGABYTE:
            refuse("MaxConcurrentTransforms times MaxPayloadInMB must not exceed 100 MB.")
        archive_of(self.context.service, request["ModelName"])

    @property
    def role_arn(self) -> str | None:
        """The role of the model."""
        model = self.context.service.call("DescribeModel", {"ModelName": self.request["ModelName"]})
        return model.get("ExecutionRoleArn")

    def work(self) -> tuple[str, Record]:
        """Do what the job is for and answer its last status, with the fields that describing it gains."""
        s3, variant = self.actor.client("s3"), {"VariantName": self.request["ModelName"]}
        bucket, pairs = objects.listed(s3, self._source["S3Uri"], self._source["S3DataType"])
        archive, environment = archive_of(self.context.service, self.request["ModelName"])
        try:
            with ExitStack() as stack:
                server = ModelServer(variant, archive, {**environment, **self._environment()}, self.folder, s3)
                stack.callback(server.stop)
                stack.callback(self._send_log, server)
                self._server = server
                server.wait()
                self.enter("Training", **{self.times[0]: now()})
                self._transform_all(server.url, bucket, pairs)
        except (UnservableModel, BadAnswer) as error:
            if not self.stopping.is_set():
                return "Failed", {"FailureReason": f"AlgorithmError: {error}"}
        return "Stopped" if self.stopping.is_set() else "Completed", {}

    def _environment(self) -> dict[str, str]:
        own = {
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": self.request.get("MaxPayloadInMB"),
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": self.request.get("MaxConcurrentTransforms"),
            "SAGEMAKER_BATCH_STRATEGY": {"SingleRecord": "SINGLE_RECORD", "MultiRecord": "MULTI_RECORD"}.get(
                self.request.get("BatchStrategy", "")
            ),
        }
        # What the request leaves open is not told to the container.
        told = {key: str(value) for key, value in own.items() if value is not None}
        return {"SAGEMAKER_BATCH": "true", **told, **self.request.get("Environment", {})}

    def _send_log(self, server: ModelServer) -> None:
        stream = f"{self.job_name}/algo-1-{int(now())}"
        log = JobLog(self.actor.client("logs"), self.log_group, stream, lambda _: None)
        for line in server.log.read_text(errors="replace").splitlines():
            log.write(line)
        log.send()

    def _transform_all(self, url: str, bucket: str, pairs: list[tuple[str, str]]) -> None:
        settings = self.request.get("ModelClientConfig", {})
        timeout = settings.get("InvocationsTimeoutInSeconds", DEFAULT_TIMEOUT_SECONDS)
        with (
            httpx.Client(base_url=url, timeout=timeout, trust_env=False) as client,
            # Objects wait in one pool for their parts, which wait in the other: no more requests at once than allowed.
            ThreadPoolExecutor(self._parallel) as senders,
            ThreadPoolExecutor(self._parallel) as readers,
        ):
            done = [readers.submit(self._transform, client, senders, bucket, *pair) for pair in pairs]
        for error in filter(None, [each.exception() for each in done]):
            if not isinstance(error, Over):
                raise error

    def _transform(self, client: httpx.Client, senders: Executor, bucket: str, key: str, relative: str) -> None:
        s3, place = self.actor.client("s3"), f"s3://{bucket}/{key}"
        try:
            body = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
            answers = senders.map(lambda part: self._answer(client, place, part), self._parts(body, place))
            end = b"\n" if self._output.get("AssembleWith") == "Line" else b""
            content = b"".join(answer if answer.endswith(end) else answer + end for answer in answers)
            target, prefix = objects.split(self._output["S3OutputPath"])
            s3.put_object(Bucket=target, Key=f"{prefix.rstrip('/')}/{relative}.out".lstrip("/"), Body=content)
        except BaseException:
            self._over.set()
            raise

    def _parts(self, body: bytes, place: str) -> Iterator[bytes]:
        """Cut an object into the bodies of its requests: whole, by lines, or by as many lines as fit."""
        records = [body] if self._split == "None" else body.removesuffix(b"\n").split(b"\n")
        batch: list[bytes] = []
        size = 0
        for record in records:
            if len(record) > self._payload:
                raise BadAnswer(f"{place}: a record has {len(record)} bytes, more than MaxPayloadInMB allows")
            full = size + len(record) > self._payload or self.request.get("BatchStrategy") == "SingleRecord"
            if batch and full:
                yield b"\n".join(batch)
                batch, size = [], 0
            batch.append(record)
            size += len(record) + 1
        yield b"\n".join(batch)

    def _answer(self, client: httpx.Client, place: str, part: bytes) -> bytes:
        given = {"Content-Type": self._input.get("ContentType"), "Accept": self._output.get("Accept")}
        headers: dict[str, Any] = {key: value for key, value in given.items() if value}
        for _ in range(self.request.get("ModelClientConfig", {}).get("InvocationsMaxRetries", 0) + 1):
            if self._over.is_set():
                raise Over
            try:
                answer = client.post("/invocations", content=part, headers=headers)
            except httpx.TransportError as error:
                why = f"{place}: the model does not answer: {type(error).__name__}: {error}"
                continue
            if answer.is_success:
                return answer.content
            why = f"{place}: Bad HTTP status received from algorithm: {answer.status_code}: {answer.text}"
        raise BadAnswer(why)

    def halt(self) -> None:
        """Let no further request go out, and end the model server with the ones under way."""
        self._over.set()
        if self._server is not None:
            self._server.child.stop(grace_seconds=0)
