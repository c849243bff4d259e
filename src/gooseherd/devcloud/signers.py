"""Who calls the local cloud: its owner by the access key, or a session that the owner made by AssumeRole.

A session may do what its policy allows until it ends, and only on S3, unless a stack has made its role: then
what that role may do (permissions.py).
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from gooseherd.devcloud.access_key import AccessKey
from gooseherd.devcloud.policies import Access, Policy
from gooseherd.devcloud.run_task import ApiError
from gooseherd.devcloud.signatures import Signature, signature_of, verify

_ROLE: Final = re.compile(r"arn:aws:iam::\d{12}:role/([\w+=,.@/-]{1,512})", re.ASCII)
_SESSION_NAME: Final = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_LONGEST_SECONDS: Final = 12 * 3600
_LONGEST_CHAINED_SECONDS: Final = 3600
_NAMESPACE: Final = "https://sts.amazonaws.com/doc/2011-06-15/"


@dataclass(frozen=True, slots=True)
class Session:
    """Temporary credentials of a role; `policy` None: nothing narrows what the role may do."""

    key: AccessKey
    token: str
    role_arn: str
    policy: Policy | None
    ends_at: float

    def may(self, access: Access) -> bool:
        """Whether its policy allows that."""
        return self.policy is None or self.policy.allows(access)


@dataclass(frozen=True, slots=True)
class Signer:
    """Who signed a request; without a session: the owner."""

    signature: Signature
    session: Session | None


class Signers:
    """Knows the owner's key and all sessions. May be asked from many threads."""

    def __init__(
        self, key: AccessKey, may_assume: Callable[[str, str], bool] = lambda _by, _role: False
    ) -> None:
        """`may_assume(by, role)`: whether a session of one role may assume the other."""
        self._key = key
        self._may_assume = may_assume
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()

    def identify(self, environ: dict[str, Any]) -> Signer:
        """Who signed the request.

        Raises:
            Unsigned: nobody did.
            ApiError: the signature is wrong, too old, or of a key that is not known here.
        """
        signature = signature_of(environ)
        if signature.key_id == self._key.key_id:
            verify(environ, signature, self._key.secret)
            return Signer(signature, None)
        session = self._sessions.get(signature.key_id)
        if session is None:
            message = "the access key id you provided does not exist in our records"
            raise ApiError("InvalidAccessKeyId", message, 403)
        verify(environ, signature, session.key.secret)
        if not secrets.compare_digest(signature.token.encode(), session.token.encode()):
            raise ApiError("InvalidToken", "the provided token is malformed or otherwise invalid", 400)
        if session.ends_at < time.time():
            raise ApiError("ExpiredToken", "the provided token has expired", 400)
        return Signer(signature, session)

    def begin(self, role_arn: str, policy: Policy | None, seconds: float) -> Session:
        """New temporary credentials."""
        key = AccessKey(f"ASIALOCAL{secrets.token_hex(6).upper()[:11]}", secrets.token_urlsafe(30))
        session = Session(key, secrets.token_urlsafe(48), role_arn, policy, time.time() + seconds)
        with self._lock:
            now = time.time()
            # A while longer than they live: who comes late learns that they have expired.
            self._sessions = {k: s for k, s in self._sessions.items() if s.ends_at + _LONGEST_SECONDS > now}
            self._sessions[key.key_id] = session
        return session

    def security_token_service(self, body: bytes, signer: Signer) -> str:
        """The answer of STS to AssumeRole, in XML. Raises ApiError."""
        request = {name: values[0] for name, values in parse_qs(body.decode(errors="replace")).items()}
        if request.get("Action") != "AssumeRole":
            raise ApiError("InvalidAction", "of STS only AssumeRole is part of the local cloud", 400)
        if signer.session is not None:
            by, role = signer.session.role_arn, request.get("RoleArn", "")
            if signer.session.policy is not None or not self._may_assume(by, role):
                raise ApiError(
                    "AccessDenied", f"{by} is not authorized to perform sts:AssumeRole on {role}", 403
                )
        return self._assume_role(request, chained=signer.session is not None)

    def _assume_role(self, request: Mapping[str, str], *, chained: bool) -> str:
        role = _ROLE.fullmatch(request.get("RoleArn", ""))
        name = request.get("RoleSessionName", "")
        seconds = request.get("DurationSeconds", "3600")
        if role is None or not _SESSION_NAME.fullmatch(name):
            raise ApiError("ValidationError", "RoleArn or RoleSessionName is of another form")
        if not seconds.isdigit() or not 900 <= int(seconds) <= _LONGEST_SECONDS:
            raise ApiError("ValidationError", "DurationSeconds: 900 to 43200")
        if chained and int(seconds) > _LONGEST_CHAINED_SECONDS:
            raise ApiError(
                "ValidationError", "DurationSeconds exceeds the hour of a role that assumes a role"
            )
        policy = Policy.parsed(request["Policy"]) if "Policy" in request else None
        session = self.begin(request["RoleArn"], policy, int(seconds))
        ends = datetime.fromtimestamp(session.ends_at, UTC)
        arn = request["RoleArn"].replace(":iam:", ":sts:").replace(":role/", ":assumed-role/")
        return (
            f'<AssumeRoleResponse xmlns="{_NAMESPACE}"><AssumeRoleResult><Credentials>'
            f"<AccessKeyId>{session.key.key_id}</AccessKeyId>"
            f"<SecretAccessKey>{session.key.secret}</SecretAccessKey>"
            f"<SessionToken>{session.token}</SessionToken>"
            f"<Expiration>{ends:%Y-%m-%dT%H:%M:%SZ}</Expiration></Credentials>"
            f"<AssumedRoleUser><AssumedRoleId>AROALOCAL:{escape(name)}</AssumedRoleId>"
            f"<Arn>{escape(arn)}/{escape(name)}</Arn></AssumedRoleUser></AssumeRoleResult>"
            "<ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ResponseMetadata>"
            "</AssumeRoleResponse>"
        )


def credentials_of(session: Session, role_arn: str) -> dict[str, str]:
    """As the endpoint for containers gives them."""
    return {
        "RoleArn": role_arn,
        "AccessKeyId": session.key.key_id,
        "SecretAccessKey": session.key.secret,
        "Token": session.token,
        "Expiration": f"{datetime.fromtimestamp(session.ends_at, UTC):%Y-%m-%dT%H:%M:%SZ}",
    }
