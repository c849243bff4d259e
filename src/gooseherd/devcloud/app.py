"""One HTTP endpoint for S3, ECS and stacks, which counts requests, injects faults, and passes the rest on."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.wrappers import Response

from gooseherd.devcloud.admin import Admin
from gooseherd.devcloud.calls import CallCounter
from gooseherd.devcloud.ecs import TARGET, TaskApi
from gooseherd.devcloud.faults import PER_CALL, FaultTable, Kind
from gooseherd.devcloud.load_balancer import Address, LoadBalancer
from gooseherd.devcloud.objects import is_public, object_exists, read_object
from gooseherd.devcloud.permissions import Permissions
from gooseherd.devcloud.policies import Access, wanted_by
from gooseherd.devcloud.run_task import ApiError, Json
from gooseherd.devcloud.services import ServiceTable
from gooseherd.devcloud.signatures import Unsigned
from gooseherd.devcloud.signers import Session, Signer, Signers, credentials_of
from gooseherd.devcloud.task_definitions import TaskDefinitions
from gooseherd.devcloud.task_documents import metadata, task_metadata
from gooseherd.devcloud.task_table import TaskTable
from gooseherd.devcloud.wsgi import (
    AMZ_JSON,
    as_json,
    break_connection,
    cut,
    drain,
    fault_on_s3,
    is_foreign,
    read_body,
    refusal,
    s3_error,
    s3_operation,
    security_token_error,
)
from gooseherd.domain.errors import InvalidInput, NotFound

_log = logging.getLogger(__name__)

T = TypeVar("T")
_OWNER: Final = "AWS4-HMAC-SHA256 Credential=devcloud/20200101/us-east-1/s3/aws4_request"
_LOOP_SECONDS: Final = 30.0
_ROLE_SECONDS: Final = 3600.0
"""Credentials of a task's role last an hour at least (they are renewed long before)."""
_BY_QUERY: Final = frozenset(
    {"cloudformation", "iam", "ec2", "elasticloadbalancing", "rds", "sns", "monitoring", "autoscaling"}
)
"""Other services of moto that speak AWS's query protocol, as S3 and STS do not."""
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class CloudEndpoint:
    """The WSGI application. Requests come in threads; what concerns tasks is done on `loop`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        registry: TaskDefinitions,
        api: TaskApi,
        task_table: TaskTable,
        faults: FaultTable,
        calls: CallCounter,
        signers: Signers,
        permissions: Permissions,
        services: ServiceTable,
    ) -> None:
        self._loop = loop
        self._signers = signers
        self._permissions = permissions
        self._registry = registry
        self._api = api
        self._services = services
        self._operations = {**registry.operations, **api.operations, **services.operations}
        self._balancers: dict[str, LoadBalancer] = {}
        self._stacks = threading.Lock()
        self._stacks_ready = False
        self._task_table = task_table
        self._faults = faults
        self._calls = calls
        self._admin = Admin(task_table, faults, calls)
        self._moto: Wsgi = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Answer one request."""
        path: str = environ["PATH_INFO"]
        target: str = environ.get("HTTP_X_AMZ_TARGET", "")
        on_s3 = not (target or path.startswith(("/_devcloud", "/v2/", "/v4/", "/moto-api")))
        application: Wsgi
        if not on_s3 and is_foreign(environ):
            read_body(environ)
            application = as_json({"error": "for programs on this machine only"}, 403)
        elif path.startswith("/v4/"):
            application = self._metadata(path)  # Not signed, as on AWS: the path holds a secret.
        elif path.startswith("/v2/"):
            application = self._role_credentials(path)
        else:
            try:
                application = self._application(environ, path, target, on_s3)
            except ApiError as error:
                drain(environ)
                application = _refused(environ, error, on_s3)
        return application(environ, start_response)

    def _application(self, environ: dict[str, Any], path: str, target: str, on_s3: bool) -> Wsgi:
        """What answers the request. Raises ApiError: it is nobody's, or not for its caller."""
        try:
            signer = self._signers.identify(environ)
        except Unsigned:
            if on_s3 and is_public(environ):
                return partial(self._s3, None)
            message = "the request is not signed; the key is in the file `credentials` of the local cloud"
            raise ApiError("AccessDenied" if on_s3 else "MissingAuthenticationToken", message, 403) from None
        if signer.signature.service == "sts" and path == "/":
            return self._security_token_service(environ, signer)
        if signer.signature.service in _BY_QUERY and path == "/":
            return self._by_query(environ, signer)
        if on_s3:
            return partial(self._s3, signer)
        if target.startswith(TARGET):
            return self._ecs(target.removeprefix(TARGET), environ, signer)
        if signer.session is not None:
            raise ApiError("AccessDeniedException", "a session may do nothing here but on S3 and ECS", 403)
        if path.startswith("/_devcloud"):
            return self._administrate(environ)
        return self._moto

    def _by_query(self, environ: dict[str, Any], signer: Signer) -> Wsgi:
        """Services whose requests are forms: their names are in the signature only."""
        if signer.session is not None:
            raise ApiError("AccessDenied", "a session may do nothing here but on S3 and ECS", 403)
        service = signer.signature.service
        action = parse_qs(read_body(environ).decode(errors="replace")).get("Action", ["?"])[0]
        self._calls.count(f"{service}:{action}")
        if service == "cloudformation":
            self._prepare_stacks()
        return self._moto

    def _prepare_stacks(self) -> None:
        """Late: importing all that moto's stacks can have takes seconds."""
        from gooseherd.devcloud.cloudformation import install
        from gooseherd.devcloud.stack_resources import StackCloud

        with self._stacks:
            if not self._stacks_ready:
                parts = StackCloud(
                    on_loop=self._on_loop,
                    registry=self._registry,
                    services=self._services,
                    has_tasks=self._task_table.has_live,
                    permissions=self._permissions,
                    balancers=self,
                )
                install(parts)
                self._stacks_ready = True

    def open_balancer(self, arn: str) -> str:
        """Listen for a load balancer of a stack; its `host:port`."""
        from gooseherd.devcloud.stack_resources import target_groups_of

        region = arn.split(":")[3]

        def targets() -> list[Address]:
            return [one for group in target_groups_of(arn, region) for one in self._services.targets(group)]

        balancer = LoadBalancer(targets)
        host, port = asyncio.run_coroutine_threadsafe(balancer.open(), self._loop).result(_LOOP_SECONDS)
        self._balancers[arn] = balancer
        return f"{host}:{port}"

    def close_balancer(self, arn: str) -> None:
        """It listens no more."""
        balancer = self._balancers.pop(arn, None)
        if balancer is not None:
            asyncio.run_coroutine_threadsafe(balancer.close(), self._loop).result(_LOOP_SECONDS)

    def _security_token_service(self, environ: dict[str, Any], signer: Signer) -> Wsgi:
        try:
            answer = self._signers.security_token_service(read_body(environ), signer)
        except ApiError as error:
            return security_token_error(error)
        self._calls.count("sts:AssumeRole")
        return Response(answer, 200, content_type="text/xml")

    # -- ECS ----------------------------------------------------------------------------------

    def _ecs(self, operation: str, environ: dict[str, Any], signer: Signer) -> Wsgi:
        self._calls.count(f"ecs:{operation}")
        body = read_body(environ)
        for fault in self._faults.hit("ecs", operation, PER_CALL):
            match fault.kind:
                case Kind.LATENCY:
                    time.sleep(fault.seconds)
                case Kind.RESET:
                    break_connection(environ)
                case Kind.THROTTLE:
                    return refusal(ApiError("ThrottlingException", fault.message or "Rate exceeded"))
                case _:
                    code = fault.code or "ServerException"
                    status = fault.status or (500 if code == "ServerException" else 400)
                    return refusal(ApiError(code, fault.message or "Service Unavailable", status))
        method = self._operations.get(operation)
        if method is None:
            return refusal(
                ApiError("UnsupportedFeatureException", f"{operation} is not part of the local cloud")
            )
        return self._call(operation, method, body, signer)

    def _call(
        self, operation: str, method: Callable[[Json, str], Json], body: bytes, signer: Signer
    ) -> Response:
        region = signer.signature.region
        try:
            request = json.loads(body or b"{}")
            if signer.session is not None:
                self._require(signer.session, operation, request, region)
            # Put into words on the loop as well: documents change there.
            payload = self._on_loop(lambda: json.dumps(method(request, region)))
        except ApiError as error:
            return refusal(error)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _log.warning("unreadable ECS request", exc_info=True)
            return refusal(ApiError("SerializationException", f"unreadable: {type(error).__name__}"))
        return Response(payload, 200, content_type=AMZ_JSON)

    def _require(self, session: Session, operation: str, request: Json, region: str) -> None:
        if session.policy is not None or not self._permissions.knows(session.role_arn):
            raise ApiError("AccessDeniedException", "a session may do nothing here but on S3", 403)
        definition = None
        if operation == "RunTask":
            definition = self._on_loop(lambda: self._api.definition_of(request, region))
        self._permissions.require(session.role_arn, operation, request, region, definition)

    # -- S3, and whatever else moto was installed with ------------------------------------------

    def _s3(self, signer: Signer | None, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        operation = s3_operation(environ)
        self._calls.count(f"s3:{operation}")
        if signer is not None and signer.session is not None and not self._may(signer.session, environ):
            drain(environ)
            return s3_error("AccessDenied", "Access Denied", 403)(environ, start_response)
        after: int | None = None
        for fault in self._faults.hit("s3", operation, PER_CALL):
            match fault.kind:
                case Kind.LATENCY:
                    time.sleep(fault.seconds)
                case Kind.RESET if fault.after_bytes is None:
                    break_connection(environ)
                case Kind.RESET:
                    after = fault.after_bytes
                case _:
                    drain(environ)
                    return fault_on_s3(fault)(environ, start_response)
        if "X-Amz-Signature=" not in environ["QUERY_STRING"]:
            # Who it is was asked above; moto would hide from strangers why a read is refused (416, 304).
            environ["HTTP_AUTHORIZATION"] = _OWNER
        body = (read_object(environ) or self._moto)(environ, start_response)
        return body if after is None else cut(body, after, environ)

    def _may(self, session: Session, environ: dict[str, Any]) -> bool:
        """Whether its policy allows the request; what is not there is hidden from who may not list it."""
        wanted = wanted_by(environ)
        if wanted is None or not self._allows(session, wanted):
            return False
        if wanted.action != "s3:GetObject" or object_exists(environ):
            return True
        return self._allows(session, Access("s3:ListBucket", wanted.resource.partition("/")[0], {}))

    def _allows(self, session: Session, access: Access) -> bool:
        return session.may(access) and self._permissions.allows(session.role_arn, access)

    # -- the rest -------------------------------------------------------------------------------

    def _administrate(self, environ: dict[str, Any]) -> Response:
        path = environ["PATH_INFO"].removeprefix("/_devcloud").strip("/").split("/")
        try:
            body = json.loads(read_body(environ) or b"null")
            answer = self._on_loop(lambda: self._admin.answer(environ["REQUEST_METHOD"], path, body))
        except (InvalidInput, json.JSONDecodeError) as error:
            return as_json({"error": str(error)}, 400)
        except NotFound as error:
            return as_json({"error": str(error)}, 404)
        return as_json(answer)

    def _metadata(self, path: str) -> Response:
        _, _, name, *rest = path.rstrip("/").split("/")
        token, _, number = name.rpartition("-")
        index = int(number) if number.isdigit() else -1

        def find() -> Json | None:
            task = self._task_table.of_metadata(token)
            if task is None or not 0 <= index < len(task.document["containers"]):
                return None
            match rest:
                case []:
                    return metadata(task.document, index)
                case ["task"]:
                    return task_metadata(task.document, with_tags=False)
                case ["taskWithTags"]:
                    return task_metadata(task.document, with_tags=True)
                case ["stats"] | ["task", "stats"]:
                    return {}
                case _:
                    return None

        answer = self._on_loop(find)
        return as_json(answer or {}, 404 if answer is None else 200)

    def _role_credentials(self, path: str) -> Response:
        """What a role of no stack may do here is everything on S3."""
        token = path.removeprefix("/v2/credentials/")
        task = self._on_loop(lambda: self._task_table.of_metadata(token))
        if task is None or not task.plan.role_arn:
            return as_json({}, 404)
        return as_json(
            credentials_of(self._signers.begin(task.plan.role_arn, None, _ROLE_SECONDS), task.plan.role_arn)
        )

    def _on_loop(self, call: Callable[[], T]) -> T:
        """Its result, or exception, from the thread that owns the tasks."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(call())
            except Exception as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(_LOOP_SECONDS)


def _refused(environ: dict[str, Any], error: ApiError, on_s3: bool) -> Response:
    """In the words of the service that was asked."""
    if "/sts/aws4_request" in environ.get("HTTP_AUTHORIZATION", ""):
        return security_token_error(error)
    return s3_error(error.code, error.message, error.status) if on_s3 else refusal(error)
