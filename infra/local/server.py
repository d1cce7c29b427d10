"""The embedded SageMaker's process: one HTTP server on loopback for every AWS service that it stands in for."""

from __future__ import annotations

import argparse
import fcntl
import functools
import json
import logging
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from infra.local import clock
from infra.local.endpoints.calls import Endpoints
from infra.local.endpoints.hosting import EndpointContext
from infra.local.endpoints.scaling import IN_MINUTES, Scaling
from infra.local.events.delivery import Events
from infra.local.jobs import container
from infra.local.jobs.calls import INSTANCE_LIMIT, Jobs
from infra.local.jobs.job import JobContext
from infra.local.minutes import Minutes
from infra.local.neighbours.application import DurableMoto, in_use
from infra.local.neighbours.cloudwatch import Alarms
from infra.local.pipelines.calls import Pipelines
from infra.local.pipelines.executions import ExecutionContext
from infra.local.resources import Resources
from infra.local.rights import actors
from infra.local.rights.actors import Rights
from infra.local.service import Service
from infra.local.store import Store

logger = logging.getLogger(__name__)

ACCOUNT = "123456789012"
"""The account that every caller belongs to, moto's own."""

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def job_environment(url: str, region: str) -> dict[str, str]:
    """Return the variables that lead an AWS client in a job to this server and to no other."""
    direct = ",".join(filter(None, (os.environ.get("no_proxy") or os.environ.get("NO_PROXY"), "127.0.0.1")))
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": direct,
        "no_proxy": direct,
        # How a script can tell that its environment is somebody's own, and not a container to install into.
        "SAGEMAKER_EMBEDDED": "true",
    }


class EmbeddedSageMaker:
    """Everything behind the HTTP server, put together once."""

    def __init__(self, state: Path, url: str, region: str, moto: DurableMoto) -> None:
        arn_prefix = f"arn:aws:sagemaker:{region}:{ACCOUNT}"
        self.service, self.store = Service(), Store(state / "records.sqlite")
        client = functools.cache(functools.partial(_client, url=url, region=region))
        self.rights = _rights(self.service, state, url, region, client, moto)
        self.events = Events(self.service, self.store, ACCOUNT, region, client, self.rights)
        speed = clock.chosen()
        self.alarms = Alarms(client, ACCOUNT, region, speed)
        self.endpoints = Endpoints(
            EndpointContext(
                self.service,
                self.store,
                self.events,
                arn_prefix,
                state / "endpoints",
                client,
                speed,
                self.alarms.tripped,
                self.rights,
            )
        )
        self._scaling = Scaling(client, speed, self._invocations, self.endpoints)
        self._minutes = Minutes(speed, (self.endpoints.send, self.alarms.evaluate, self._scale))
        self.pipelines = Pipelines(
            self.service,
            self.store,
            ExecutionContext(self.service, self.store, self.events, arn_prefix, client, self.rights),
        )
        self.jobs = Jobs(
            JobContext(
                self.service,
                self.store,
                arn_prefix,
                state / "jobs",
                job_environment(url, region),
                client,
                container.chosen(),
                self.events.resource,
                rights=self.rights,
                **_limits(),
            )
        )
        resources = Resources(self.service, self.store, self.events, ACCOUNT, region)
        for operations in (resources, self.jobs, self.pipelines, self.endpoints):
            self.service.register(operations)

    def _scale(self) -> None:
        # What nobody has called yet has no policies, and need not be imported to say so.
        if in_use("applicationautoscaling"):
            self._scaling.follow()

    def _invocations(self, endpoint: str, variant: str) -> list[float]:
        """Return the invocations per instance of a variant in the latest of AWS's minutes."""
        dimensions = {"EndpointName": endpoint, "VariantName": variant}
        metric = ("AWS/SageMaker", "InvocationsPerInstance", dimensions)
        return [value or 0.0 for value in self.alarms.values(metric, "Sum", 60, IN_MINUTES)]

    def recover(self) -> None:
        """Take up what an earlier server on the same folder left, before this one answers. Calls nobody."""
        self.jobs.recover()
        self.pipelines.recover()
        self.endpoints.recover()
        self.events.start()
        self._minutes.start()

    def stop_all(self) -> None:
        """Stop whatever runs. What stops still needs this server, to upload and to log."""
        self._minutes.stop()
        self.events.stop()
        self.pipelines.stop_all()
        self.jobs.stop_all()
        self.endpoints.stop_all()


def _rights(
    service: Service, state: Path, url: str, region: str, client: Callable[[str], Any], moto: DurableMoto
) -> Rights:
    if not actors.enforced():
        return actors.Free(client, service.call)
    # Only now, because it brings moto's models of IAM and STS.
    from infra.local.rights.accesses import Place
    from infra.local.rights.roles import Roles

    return Roles(service, Place(ACCOUNT, region), url, state, moto.reading)


def _limits() -> dict[str, int]:
    """Return the limit that the environment sets. Raises ``RuntimeError`` for one that is no number."""
    text = os.environ.get(INSTANCE_LIMIT)
    if text and not (text.isdecimal() and int(text)):
        raise RuntimeError(f"{INSTANCE_LIMIT} is '{text}': expected a number above 0")
    return {"instance_limit": int(text)} if text else {}


def _client(service: str, *, url: str, region: str) -> Any:
    session = boto3.Session("local", "local", region_name=region)
    # Many jobs share a client. The machine's proxies are none of a loopback address's business.
    return session.client(service, endpoint_url=url, config=Config(max_pool_connections=50, proxies={}))


class Application:
    """Routes a request: SageMaker's to the embedded one, everything else to moto."""

    def __init__(self, embedded: EmbeddedSageMaker, moto: DurableMoto) -> None:
        self._embedded, self._moto = embedded, moto

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer one WSGI request."""
        answer: Iterable[bytes] = self._route(Request(environ))(environ, start_response)
        return answer

    def _route(self, request: Request) -> Any:
        if not _is_local(request.host) or not _is_local(urlsplit(request.headers.get("Origin", "//localhost")).netloc):
            # A web page must not reach an unguarded cloud that runs commands: neither one that makes its own name
            # point at this machine nor one that calls this machine by its own name.
            return Response(f"this server answers to {', '.join(LOOPBACK)} only", 403)
        if request.path == "/_local/health":
            return Response(json.dumps({"pid": os.getpid()}), content_type="application/json")
        if (refusal := self._embedded.rights.refusal(request)) is not None:
            return refusal
        if "/cloudformation/" in request.headers.get("Authorization", ""):
            # Only now, because it brings the models of nearly all of moto's services: more than a second.
            from infra.local.stacks import updates as stack_updates

            stack_updates.install(self._embedded.service)
        if request.headers.get("X-Amz-Target", "").startswith("SageMaker."):
            return self._embedded.service.respond(request)
        parts = request.path.strip("/").split("/")
        if len(parts) == 3 and parts[0] == "endpoints" and parts[2] == "invocations" and request.method == "POST":
            return self._embedded.endpoints.invoke(parts[1], request)
        return self._moto


def _is_local(host: str) -> bool:
    return host.lower() in LOOPBACK or host.lower().rpartition(":")[0] in LOOPBACK


class QuietRequestHandler(WSGIRequestHandler):
    """Keeps one line a request out of the log, where errors should be easy to find; sends answers in one piece."""

    # Unbuffered, head and body are two writes. botocore takes a head whose body is missing for an empty answer. What is
    # longer than a megabyte is a file, and whoever fetches one compares its length.
    wbufsize = 1 << 20

    def make_environ(self) -> dict[str, Any]:
        """Describe a request whose body may yet come: its sender waits for "100 Continue", written just before this."""
        self.wfile.flush()
        return super().make_environ()

    def finish(self) -> None:
        """Close; that a client went away before its answer is no error."""
        try:
            super().finish()
        except ConnectionError:
            self.rfile.close()

    def log_request(self, *_: Any) -> None:
        """Say nothing."""


def _lock(state: Path) -> IO[str] | None:
    handle = (state / "lock").open("w")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.close()
        return None
    return handle


def _refuse_foreign(state: Path) -> None:
    """Raise ``RuntimeError`` for somebody else's folder: what is in it would be taken for leftovers, and removed."""
    foreign = [name for name in ("jobs", "endpoints", "objects") if (state / name).exists()]
    ours = any((state / name).exists() for name in ("moto.sqlite", "records.sqlite"))
    if foreign and not ours:
        raise RuntimeError(
            f"{state} holds {', '.join(foreign)}, and not by an embedded SageMaker: name an empty folder for its state"
        )


def _fresh(state: Path) -> None:
    """Remove what belonged to an earlier server's processes and to nobody else."""
    (state / "server.json").unlink(missing_ok=True)
    for name in ("jobs", "endpoints"):
        shutil.rmtree(state / name, ignore_errors=True)


def serve(state: Path, port: int, region: str) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises ``OSError`` when the folder cannot be written, ``RuntimeError`` when another server uses it, ``SystemExit``
    (after a line on standard error) when the port is taken.
    """
    state.mkdir(parents=True, exist_ok=True)
    lock = _lock(state)
    if lock is None:
        raise RuntimeError(f"another embedded SageMaker already uses {state}")
    _refuse_foreign(state)
    moto = DurableMoto(state)
    _fresh(state)
    routes: list[Application] = []
    server = make_server(
        "127.0.0.1",
        port,
        lambda environ, start: routes[0](environ, start),
        threaded=True,
        request_handler=QuietRequestHandler,
    )
    url = f"http://127.0.0.1:{server.server_port}"
    embedded = EmbeddedSageMaker(state, url, region, moto)
    routes.append(Application(embedded, moto))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Whoever knows the address waits meanwhile: what is recovered must not be taken for what has just been asked for.
    embedded.recover()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ready = state / "server.json"
    ready.with_suffix(".new").write_text(json.dumps({"pid": os.getpid(), "url": url, "region": region}))
    ready.with_suffix(".new").rename(ready)
    logger.info("the embedded SageMaker answers at %s, state in %s", url, state)
    # A signal may reach the process through any of its threads, and only this one, awake, runs the handler.
    while not stop.wait(timeout=0.5):
        pass
    embedded.stop_all()
    server.shutdown()
    ready.unlink(missing_ok=True)
    embedded.store.close()
    moto.close()
    lock.close()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server in the foreground."""
    parser = argparse.ArgumentParser(prog="python -m infra.local.server", description=__doc__)
    parser.add_argument("--state", type=Path, required=True, help="folder for everything that the server keeps")
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1 (default: any free one)")
    parser.add_argument("--region", default="eu-central-1", help="AWS region to stand in for (default: %(default)s)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        serve(arguments.state.resolve(), arguments.port, arguments.region)
    except (OSError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
