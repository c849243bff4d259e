"""The part of IAM's policy language that this service's policies use: who may do what to which resource.

A policy that says something this module does not understand is refused, never misread.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from gooseherd.devcloud.objects import path_of
from gooseherd.devcloud.run_task import ApiError
from gooseherd.devcloud.wsgi import is_foreign, query_of, s3_operation

Context = Mapping[str, str]
"""Condition keys of a request; those that the request does not have are absent."""


@dataclass(frozen=True, slots=True)
class Access:
    """One thing that a request needs to be allowed."""

    action: str
    resource: str
    context: Context


_OBJECT_ACTIONS: Final = {
    "GetObject": "s3:GetObject",
    "HeadObject": "s3:GetObject",
    "PutObject": "s3:PutObject",
    "CreateMultipartUpload": "s3:PutObject",
    "UploadPart": "s3:PutObject",
    "CompleteMultipartUpload": "s3:PutObject",
    "AbortMultipartUpload": "s3:AbortMultipartUpload",
    "ListParts": "s3:ListMultipartUploadParts",
    "DeleteObject": "s3:DeleteObject",
}
_BUCKET_ACTIONS: Final = {
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "ListMultipartUploads": "s3:ListBucketMultipartUploads",
}
"""The action that each operation takes (service authorization reference); no session has any other."""
_CREATES: Final = frozenset({"PutObject", "CompleteMultipartUpload"})
_PLAIN_PARAMETERS: Final = re.compile(
    r"uploads|uploadId|partNumber|x-id|list-type|prefix|delimiter|continuation-token|start-after|max-keys"
    r"|max-uploads|key-marker|upload-id-marker|encoding-type|X-Amz-[A-Za-z0-9-]+"
)
_MORE_THAN_THE_ACTION: Final = re.compile(
    "HTTP_X_AMZ_(ACL|GRANT_.*|TAGGING|OBJECT_LOCK_.*|COPY_SOURCE.*|WEBSITE_.*)"
)
"""Headers that take another permission as well."""


def wanted_by(environ: dict[str, Any]) -> Access | None:
    """What an S3 request does; None for what no session can be allowed here."""
    parameters = dict(query_of(environ))
    operation = s3_operation(environ)
    if not all(_PLAIN_PARAMETERS.fullmatch(name) for name in parameters):
        return None
    if any(_MORE_THAN_THE_ACTION.fullmatch(name) for name in environ):
        return None
    # A bucket in the host's name, or a path that others read as another one, is not judged: it is refused.
    path = path_of(environ)
    if is_foreign(environ) or not path.startswith("/") or {"", ".", ".."} & set(path[1:].split("/")[:-1]):
        return None
    bucket, _, key = path[1:].partition("/")
    if key.rpartition("/")[2] in {".", ".."}:
        return None
    if (action := _OBJECT_ACTIONS.get(operation)) and key:
        context = {}
        if action == "s3:PutObject":
            context["s3:ObjectCreationOperation"] = str(operation in _CREATES).lower()
            if (condition := environ.get("HTTP_IF_NONE_MATCH")) is not None:
                context["s3:if-none-match"] = condition
        return Access(action, f"arn:aws:s3:::{bucket}/{key}", context)
    if (action := _BUCKET_ACTIONS.get(operation)) and not key and bucket:
        named = {"s3:prefix": parameters["prefix"]} if "prefix" in parameters else {}
        return Access(action, f"arn:aws:s3:::{bucket}", named)
    return None


@dataclass(frozen=True, slots=True)
class _Statement:
    allows: bool
    actions: tuple[re.Pattern[str], ...]
    resources: tuple[re.Pattern[str], ...]
    conditions: tuple[Callable[[Context], bool], ...]

    def covers(self, access: Access) -> bool:
        return (
            any(one.fullmatch(access.action.lower()) for one in self.actions)
            and any(one.fullmatch(access.resource) for one in self.resources)
            and all(holds(access.context) for holds in self.conditions)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """An identity policy."""

    statements: tuple[_Statement, ...]

    @classmethod
    def parsed(cls, text: str) -> Self:
        """A session policy. Raises ApiError, MalformedPolicyDocument or ValidationError, as STS does."""
        if len(text) > 2048:
            raise ApiError("ValidationError", "the session policy has more than 2048 characters")
        try:
            return cls.of(json.loads(text))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ApiError("MalformedPolicyDocument", f"unreadable policy: {error}") from None

    @classmethod
    def of(cls, *documents: Mapping[str, Any]) -> Self:
        """All statements of these documents. Raises ValueError or KeyError for what is not understood."""
        return cls(tuple(_statement(one) for found in documents for one in _several(found["Statement"])))

    def allows(self, access: Access) -> bool:
        """Something allows it and nothing denies it."""
        covering = [statement.allows for statement in self.statements if statement.covers(access)]
        return bool(covering) and all(covering)

    def denies(self, access: Access) -> bool:
        """Something denies it: what counts of a bucket's policy within one account."""
        return any(not statement.allows and statement.covers(access) for statement in self.statements)


def _statement(document: Mapping[str, Any]) -> _Statement:
    unknown = set(document) - {"Sid", "Effect", "Action", "Resource", "Condition"}
    if document.get("Principal") == "*":
        unknown.discard("Principal")
    if unknown or document["Effect"] not in {"Allow", "Deny"}:
        raise ValueError(f"not understood here: {', '.join(sorted(unknown)) or document['Effect']}")
    return _Statement(
        document["Effect"] == "Allow",
        tuple(_pattern(action.lower()) for action in _several(document["Action"])),
        tuple(_pattern(resource) for resource in _several(document["Resource"])),
        tuple(
            _condition(operator, key, tuple(map(str, _several(values))))
            for operator, keys in document.get("Condition", {}).items()
            for key, values in keys.items()
        ),
    )


def _condition(operator: str, key: str, values: tuple[str, ...]) -> Callable[[Context], bool]:
    if operator == "Null":
        return lambda context: (key not in context) == (values[0].lower() == "true")
    if operator == "Bool":
        return lambda context: context.get(key, "").lower() == values[0].lower()
    if operator in {"StringEquals", "StringLike", "ArnEquals", "ArnLike"}:
        # Of ARNs both operators know wildcards.
        patterns = [
            re.compile(re.escape(value)) if operator == "StringEquals" else _pattern(value)
            for value in values
        ]
        return lambda context: key in context and any(one.fullmatch(context[key]) for one in patterns)
    raise ValueError(f"condition {operator} is not understood here")


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _pattern(text: str) -> re.Pattern[str]:
    """IAM's wildcards: any characters, slashes included."""
    return re.compile("".join({"*": ".*", "?": "."}.get(sign, re.escape(sign)) for sign in text), re.DOTALL)
