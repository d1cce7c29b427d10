"""Roles that mean something: sessions, policies and trust as moto's IAM has them, and a log of what was used.

Credentials of a role are those that STS gave out, to this server for jobs, pipelines, rules and models, or to whoever
called it. All others are the account's owner's, who may do everything. Resource policies are no part of it, except a
bucket's, which S3 judges itself.
"""

from __future__ import annotations

import base64
import functools
import json
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from xml.sax.saxutils import escape

import boto3
from botocore.config import Config
from moto.iam.exceptions import NotFoundException
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends
from werkzeug.wrappers import Request, Response

from infra.local.rights.accesses import Place, credentials, of_call, of_request, operation_of
from infra.local.rights.actors import SAGEMAKER, Actor
from infra.local.rights.policies import Access, UnsupportedPolicy, allowed
from infra.local.service import Service, ServiceError, refuse
from infra.local.store import Record

LOG = "rights.jsonl"
"""In the state folder: each action that a role used or was refused, once for each resource."""

SESSION_SECONDS = 3600

_GRANTS = ("AssumeRole", "AssumeRoleWithWebIdentity")


class Denied(ServiceError):
    """An access that no policy of a role allows, or that one denies."""


class Roles:
    """The roles of the account."""

    def __init__(
        self, service: Service, place: Place, url: str, state: Path, reading: Callable[[], AbstractContextManager[None]]
    ) -> None:
        """Take up the roles that moto's IAM holds; ``reading`` keeps others out of moto for a block."""
        self._service, self._place, self._url, self._reading = service, place, url, reading
        self._lock, self._log, self._seen = threading.Lock(), state / LOG, set[tuple[str, str, str, bool]]()

    # Who acts

    def actor(self, role_arn: str | None, service: str = SAGEMAKER, context: Mapping[str, str] | None = None) -> Actor:
        """Return who acts in the name of a role that a service takes on.

        Raises ``ServiceError`` where the role does not exist, or does not trust the service.
        """
        if not role_arn:
            refuse("A role is needed: roles are enforced here, and none is named.")
        known = {"aws:SourceAccount": self._place.account, **(context or {})}
        self._require_trust(role_arn, Access("sts:AssumeRole", "*", known, ("Service", service)))
        return self._actor(role_arn)

    @functools.cache  # noqa: B019 - one for the server's whole life
    def _actor(self, role_arn: str) -> Actor:
        name = role_arn.rpartition("/")[2]
        with self._reading():
            session = sts_backends[self._place.account]["aws"].assume_role(
                region_name=self._place.region,
                role_session_name=f"SageMaker-{secrets.token_hex(4)}",
                role_arn=role_arn,
                policy=None,
                duration=SESSION_SECONDS,
                external_id=None,
            )
        keys = (session.access_key_id, session.secret_access_key, session.session_token)
        variables = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        boto = boto3.Session(*keys, region_name=self._place.region)
        config = Config(max_pool_connections=50, proxies={})
        client = functools.cache(lambda wanted: boto.client(wanted, endpoint_url=self._url, config=config))

        def call(action: str, request: Record) -> Record:
            self._judge(role_arn, name, of_call(action, request, self._place))
            return self._service.call(action, request)

        return Actor(client, call, dict(zip(variables, keys, strict=True)))

    def _role(self, role_arn: str) -> Any:
        try:
            return iam_backends[self._place.account]["aws"].get_role(role_arn.rpartition("/")[2])
        except NotFoundException:
            return None

    def _require_trust(self, role_arn: str, access: Access) -> None:
        with self._reading():
            role = self._role(role_arn)
            trust = json.loads(role.assume_role_policy_document) if role else None
        if trust is None or not _verdict([trust], access):
            name = access.principal[1] if access.principal else ""
            refuse(
                f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal "
                f"'{name}' to assume the role."
            )

    # What is allowed

    def _policies(self, role_arn: str) -> list[Record]:
        with self._reading():
            role = self._role(role_arn)
            if role is None:
                return []
            attached = [
                next(version.document for version in policy.versions if version.is_default)
                for policy in role.managed_policies.values()
            ]
            return [_parsed(text) for text in (*role.policies.values(), *attached)]

    def _judge(self, role_arn: str, session: str, accesses: Iterable[Access]) -> None:
        """Raise ``Denied`` for the first access that a role has no right to."""
        policies, name = self._policies(role_arn), role_arn.rpartition("/")[2]
        for access in accesses:
            verdict = _verdict(policies, access)
            self._note(name, access, verdict)
            if not verdict:
                who = f"arn:aws:sts::{self._place.account}:assumed-role/{name}/{session}"
                raise Denied(
                    "AccessDeniedException",
                    f"User: {who} is not authorized to perform: {access.action} on resource: {access.resource} because "
                    f"no identity-based policy allows the {access.action} action",
                )

    def _note(self, role: str, access: Access, verdict: bool) -> None:
        seen = (role, access.action, access.resource, verdict)
        with self._lock:
            if seen in self._seen:
                return
            self._seen.add(seen)
            line = {"role": role, "action": access.action, "resource": access.resource, "allowed": verdict}
            with self._log.open("a") as log:
                log.write(json.dumps(line) + "\n")

    # Requests

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that its role may not make, or ``None``."""
        key, service = credentials(request)
        with self._reading():
            session = sts_backends[self._place.account]["aws"].get_assumed_role_from_access_key(key)
        if session is None and service not in ("sts", ""):
            return None
        operation, members = operation_of(request, service)
        try:
            if operation in _GRANTS:
                self._require_grant(operation, members)
            # Who one is, everybody may ask; a token needs no right but the role's trust.
            if session is not None and operation not in ("GetCallerIdentity", "AssumeRoleWithWebIdentity"):
                accesses = of_request(request, service, operation, members, self._place)
                self._judge(session.role_arn, session.session_name, accesses)
        except ServiceError as error:
            return _answer(request, service, error)
        return None

    def _require_grant(self, operation: str, members: Record) -> None:
        """Raise ``Denied`` where a role does not trust who wants to take it on."""
        role_arn = str(members.get("RoleArn"))
        access = Access(f"sts:{operation}", principal=("AWS", f"arn:aws:iam::{self._place.account}:root"))
        if operation == "AssumeRoleWithWebIdentity":
            access = self._claimed(str(members.get("WebIdentityToken", "")))
        try:
            self._require_trust(role_arn, access)
        except ServiceError as error:
            raise Denied("AccessDenied", f"Not authorized to perform {access.action} on {role_arn}") from error

    def _claimed(self, token: str) -> Access:
        """Return what a token claims. Its signature is not looked at: nobody here could have the issuer's keys."""
        try:
            claims = json.loads(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
            host = urlsplit(str(claims["iss"])).netloc
        except (IndexError, ValueError, KeyError, TypeError) as error:
            refuse(f"The web identity token is no JSON Web Token with an issuer: {error!r}", "InvalidIdentityToken")
        provider = f"arn:aws:iam::{self._place.account}:oidc-provider/{host}"
        with self._reading():
            known = provider in {each.arn for each in _providers(self._place.account)}
        if not known:
            refuse(f"No OpenIDConnect provider found in your account for https://{host}", "InvalidIdentityToken")
        context = {f"{host}:{claim}": str(value) for claim, value in claims.items()}
        return Access("sts:AssumeRoleWithWebIdentity", "*", context, ("Federated", provider))


def _providers(account: str) -> Iterable[Any]:
    providers: Iterable[Any] = iam_backends[account]["aws"].open_id_providers.values()
    return providers


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> Record:
    policy: Record = json.loads(text)
    return policy


def _verdict(policies: Iterable[Record], access: Access) -> bool:
    try:
        return allowed(policies, access)
    except UnsupportedPolicy as error:
        refuse(str(error), "UnsupportedOperation")


def _answer(request: Request, service: str, error: ServiceError) -> Response:
    """Word a refusal as the service's protocol does."""
    if service == "s3":
        # A client that still sends would take the end of the connection for a fault of the network.
        for _ in iter(lambda: request.stream.read(1 << 16), b""):
            pass
        body = f"<Error><Code>AccessDenied</Code><Message>{escape(str(error))}</Message></Error>"
        return Response(body, 403, content_type="application/xml")
    if service == "sagemaker" or "X-Amz-Target" in request.headers:
        body = json.dumps({"__type": error.code, "message": str(error)})
        return Response(body, 400, {"x-amzn-errortype": error.code}, content_type="application/x-amz-json-1.1")
    code = error.code.removesuffix("Exception")
    body = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{escape(str(error))}</Message></Error>"
    return Response(f"<ErrorResponse>{body}</ErrorResponse>", 403, content_type="text/xml")
