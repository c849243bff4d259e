"""The API's description at /openapi.json: what the framework cannot know of parameters, refusals and keys."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from gooseherd.api.htsget.refusals import MEDIA_TYPE as HTSGET_MEDIA_TYPE
from gooseherd.api.htsget.refusals import PREFIX
from gooseherd.api.methods import routes_of
from gooseherd.api.models.htsget import HtsgetRefusalView
from gooseherd.api.models.problem import ProblemView
from gooseherd.api.problems import MEDIA_TYPE
from gooseherd.api.route_parameters import needs_key, problems
from gooseherd.api.small_bodies import SmallBodyRoute

_WORD: Final = {"pattern": r"^[A-Za-z0-9_-]+$", "maxLength": 128}
_PATH_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    # Two dots in a row are refused; this says so without looking ahead, which few validators can.
    "dcc": {"pattern": r"^[A-Za-z0-9](\.?[A-Za-z0-9_-])*\.?$", "maxLength": 64, "example": "4dn"},
    "local_id": {
        "pattern": r"^[A-Za-z0-9](\.?[A-Za-z0-9_~:+@=-])*\.?$",
        "maxLength": 255,
        "example": "4dnfi1",
    },
    "digest": {"pattern": r"^[0-9a-f]{64}$"},
    "worker_id": {"pattern": r"^[A-Za-z0-9_.:-]+$", "maxLength": 255},
    "name": {"pattern": r"^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": 255},
}
_REFUSALS: Final[list[tuple[type[BaseModel], JsonSchemaMode]]] = [
    (ProblemView, "serialization"),
    (HtsgetRefusalView, "serialization"),
]
"""Routes refer to them by name: for a model the framework makes a validator for each status of each route."""
_HEAD: Final = "head"
_METHODS: Final = ("get", "post", "delete", "put", "patch", _HEAD)
_SCHEMES: Final = {
    "ApiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A key of `gooseherd keys create`, or the admin key.",
    },
    "Bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A key, or a token of the identity provider.",
    },
    "Token": {
        "type": "apiKey",
        "in": "query",
        "name": "token",
        "description": "A download token, for viewers that send no headers; for reading alone.",
    },
}
_KEYS: Final[list[dict[str, list[str]]]] = [{"ApiKey": []}, {"Bearer": []}]
_READING: Final = [*_KEYS, {"Token": []}]


def operation_id(route: APIRoute) -> str:
    """From method and path, which stay: clients are generated with these names."""
    words = [word.strip("{}") for word in route.path.split("/") if word]
    ending = ["names"] if route.path.endswith("/") and words else []
    return (
        "_".join([min(route.methods or {"GET"}).lower(), *words, *ending]).replace(".", "_").replace("-", "_")
    )


def routes_under(tag: str) -> APIRouter:
    """For routes that the description lists under `tag`; DescribedFramework takes them as they are."""
    return APIRouter(tags=[tag], generate_unique_id_function=operation_id, route_class=SmallBodyRoute)


class DescribedFramework(FastAPI):
    """The framework with these routes, whose description has what it cannot know by itself."""

    def __init__(self, routers: Sequence[APIRouter], **options: Any) -> None:
        super().__init__(**options)
        # Not include_router: it would analyse each route again, within the first request that comes.
        self.router.routes.extend(routes_of(routers))
        self._routers = routers
        self._description: dict[str, Any] | None = None

    def openapi(self) -> dict[str, Any]:
        """Made once."""
        if self._description is None:
            with_key = {
                (route.path, method.lower())
                for route in routes_of(self._routers)
                if needs_key(route)
                for method in route.methods or ()
            }
            self._description = _completed(copy.deepcopy(super().openapi()), with_key)
        return self._description


def _completed(schema: dict[str, Any], with_key: set[tuple[str, str]]) -> dict[str, Any]:
    for path, operations in schema["paths"].items():
        if "get" in operations and _HEAD not in operations:
            operations[_HEAD] = _head_of(operations["get"])
            if (path, "get") in with_key:
                with_key.add((path, _HEAD))
        for method, operation in operations.items():
            if method in _METHODS:
                _complete(operation, in_path=path)
                if path.startswith(PREFIX):
                    _refuse_as_htsget(operation["responses"])
                allowed = _READING if method in ("get", _HEAD) else _KEYS
                operation["security"] = _KEYS if (path, method) in with_key else [{}, *allowed]
    components = schema.setdefault("components", {})
    components["securitySchemes"] = _SCHEMES
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    _, refusals = models_json_schema(_REFUSALS, ref_template="#/components/schemas/{model}")
    schemas.update(refusals["$defs"])
    return schema


def _complete(operation: dict[str, Any], *, in_path: str) -> None:
    for parameter in operation.get("parameters", ()):
        if parameter["in"] == "path" and f"{{{parameter['name']}}}" in in_path:
            parameter["schema"] |= _PATH_PARAMETERS.get(parameter["name"], _WORD)
    responses = operation["responses"]
    refusals = {str(code): refusal for code, refusal in problems(400, 414, 422).items()}
    framework_own = "#/components/schemas/HTTPValidationError"
    if framework_own in str(responses.get("422", "")):
        responses["422"] = _problem(refusals["422"])
    for code, answer in responses.items():
        if code[0] in "45" and MEDIA_TYPE in answer.get("content", ()):
            # The framework adds application/json, which no refusal is.
            answer["content"] = {MEDIA_TYPE: answer["content"][MEDIA_TYPE]}
    for code in ("400", "414"):
        responses.setdefault(code, _problem(refusals[code]))
    for code, words in (("4XX", "The request is refused"), ("5XX", "The service cannot answer it")):
        responses[code] = _problem({**refusals["400"], "description": f"{words}; `type` says why"})


def _refuse_as_htsget(responses: dict[str, Any]) -> None:
    """What htsget has in place of problems (api/htsget/refusals.py)."""
    responses.pop("422", None)
    refusal = {"$ref": "#/components/schemas/HtsgetRefusalView"}
    for code, response in responses.items():
        if code[0] in "45":
            response["content"] = {HTSGET_MEDIA_TYPE.partition(";")[0]: {"schema": refusal}}


def _problem(refusal: dict[str, Any]) -> dict[str, Any]:
    """As the framework writes it: without the class of the model."""
    return {key: value for key, value in refusal.items() if key != "model"}


def _head_of(get: dict[str, Any]) -> dict[str, Any]:
    """Every GET has one (RFC 9110 §9.3.2)."""
    head = {key: value for key, value in get.items() if key in ("tags", "parameters")}
    return {
        **copy.deepcopy(head),
        "operationId": f"head_{get['operationId'].removeprefix('get_')}",
        "summary": f"Headers of {get['summary'][0].lower()}{get['summary'][1:]}",
        "responses": {
            code: {key: value for key, value in response.items() if key in ("description", "headers")}
            for code, response in get["responses"].items()
        },
    }
