"""The local cloud's admin routes in Python: inject faults, count calls, kill tasks."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from gooseherd.devcloud.access_key import AccessKey
from gooseherd.devcloud.faults import Fault, Kind
from gooseherd.domain.errors import InvalidInput, Misconfigured, NotFound, Unavailable


class SignedBy(httpx.Auth):
    """Signs requests as those to AWS are signed. The secret itself is never sent."""

    requires_request_body = True

    def __init__(self, key: AccessKey | None) -> None:
        self._key = key

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Adds the headers."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        unsigned = AWSRequest(request.method, str(request.url), data=request.content)
        SigV4Auth(self._credentials(), "devcloud", "us-east-1").add_auth(unsigned)
        request.headers.update(dict(unsigned.headers.items()))
        yield request

    def _credentials(self) -> Any:
        from botocore.credentials import Credentials
        from botocore.session import get_session

        if self._key is not None:
            return Credentials(self._key.key_id, self._key.secret)
        found = get_session().get_credentials()
        if found is None:
            raise Misconfigured("AWS credentials", "found none for the local cloud")
        return found.get_frozen_credentials()


class LocalCloudAdmin:
    """Blocking calls to the local cloud at `endpoint_url`. Use as a context manager or close it.

    Without a `key` credentials are found as boto3 finds them. All methods raise InvalidInput for a fault
    that makes no sense, NotFound for a task or route that is not there, Misconfigured for another key than
    the cloud's, and Unavailable when nothing answers.
    """

    def __init__(self, endpoint_url: str, key: AccessKey | None = None) -> None:
        self._http = httpx.Client(base_url=endpoint_url, timeout=30, trust_env=False, auth=SignedBy(key))

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Self:
        """Of the cloud that these variables point an API process at."""
        key = AccessKey(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
        return cls(environment["AWS_ENDPOINT_URL"], key)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the connection."""
        self._http.close()

    def inject(self, *faults: Fault) -> list[int]:
        """Inject these faults from now on; their numbers."""
        response = self._call("POST", "faults", [fault.to_json() for fault in faults])
        return list(response["ids"])

    def faults(self) -> list[dict[str, Any]]:
        """The faults that are injected, with what is left of each."""
        return list(self._call("GET", "faults"))

    def clear(self, number: int | None = None) -> None:
        """Remove one, or all."""
        self._call("DELETE", "faults" if number is None else f"faults/{number}")

    def calls(self) -> dict[str, Any]:
        """`{seconds, operations: {"ecs:RunTask": {total, last_minute, busiest_minute}}}`."""
        return dict(self._call("GET", "calls"))

    def forget_calls(self) -> None:
        """Count from zero."""
        self._call("DELETE", "calls")

    def tasks(self) -> list[dict[str, Any]]:
        """Every task that is remembered: id, arn, status, health, address, pids, logs and more."""
        return list(self._call("GET", "tasks"))

    def kill(self, task: str) -> None:
        """SIGKILL to the task's containers."""
        self._call("POST", f"tasks/{task.rpartition('/')[2]}/kill")

    def reclaim(self, task: str) -> None:
        """Take a Spot task's capacity back: SIGTERM now, SIGKILL after the (scaled) two minutes."""
        self._call("POST", f"tasks/{task.rpartition('/')[2]}/reclaim")

    # -- the usual faults ------------------------------------------------------------------------

    def refuse_capacity(self, times: int = 1, *, as_error: bool = False) -> None:
        """The next RunTasks find no capacity: `failures[]` in a 200, or a ClientException."""
        if as_error:
            message = "Capacity is unavailable at this time. Please try again later"
            self.fail("RunTask", times=times, code="ClientException", message=message)
        else:
            self.inject(Fault(kind=Kind.CAPACITY, times=times))

    def throttle(self, *operations: str, times: int | None = None, share: float = 1.0) -> None:
        """ThrottlingException for those ECS operations (all when none is named)."""
        self.inject(Fault(kind=Kind.THROTTLE, service="ecs", operations=operations, times=times, share=share))

    def fail(self, *operations: str, times: int | None = 1, code: str = "", message: str = "") -> None:
        """Those ECS operations answer with that error (ServerException by default)."""
        self.inject(
            Fault(
                kind=Kind.ERROR, service="ecs", operations=operations, times=times, code=code, message=message
            )
        )

    def hide_fleet(self, seconds: float) -> None:
        """ListTasks and DescribeTasks answer 500 for that long."""
        self.inject(Fault(kind=Kind.ERROR, operations=("ListTasks", "DescribeTasks"), lasts=seconds))

    def spoil_tasks(self, kind: Kind, times: int = 1, *, seconds: float = 0.0, exit_code: int = 1) -> None:
        """The next tasks have that trouble: slow_start, never_healthy, dies, cannot_pull, …"""
        self.inject(Fault(kind=kind, times=times, seconds=seconds, exit_code=exit_code))

    def spoil_storage(
        self,
        kind: Kind,
        *operations: str,
        times: int | None = None,
        share: float = 1.0,
        seconds: float = 0.0,
        after_bytes: int | None = None,
    ) -> None:
        """S3 requests fail (error), are throttled, break off (reset), or take `seconds` longer (latency)."""
        self.inject(
            Fault(
                kind=kind,
                service="s3",
                operations=operations,
                times=times,
                share=share,
                seconds=seconds,
                after_bytes=after_bytes,
            )
        )

    def _call(self, method: str, path: str, body: Sequence[Any] | None = None) -> Any:
        try:
            response = self._http.request(method, f"/_devcloud/{path}", json=body)
        except httpx.HTTPError as error:
            raise Unavailable(f"the local cloud did not answer: {type(error).__name__}") from error
        if response.status_code == 403:
            raise Misconfigured("AWS credentials", f"not those of the local cloud at {self._http.base_url}")
        if response.status_code == 404:
            raise NotFound("task or route of the local cloud", path)
        if response.status_code != 200:
            raise InvalidInput("fault", response.text)
        return response.json()
