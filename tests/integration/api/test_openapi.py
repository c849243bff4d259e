"""The description at /openapi.json, and requests that schemathesis makes from it."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from gooseherd.api import wrong_keys

HERE = Path(__file__).parents[2] / "openapi"
EXAMPLE = {"dcc": "4dn", "local_id": "4dnfi1"}


@pytest.fixture
async def described(build_town: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A service with one file that is ready, the one of the examples.

    It answers as many wrong keys as are tried (else 429 after ten), so that it is seen what each one opens.
    """
    monkeypatch.setattr(wrong_keys, "ALLOWED", 1_000_000)
    town = await build_town(wait_max_seconds=0.1, event_streams_per_requester=5)
    await town.publish(await town.register(**EXAMPLE), b"bytes" * 100)
    return town


async def schemathesis(town: Any, folder: Path, *options: str) -> None:
    program = Path(sys.executable).with_name("schemathesis")
    process = await asyncio.create_subprocess_exec(
        *(program, "--config-file", HERE / "schemathesis.toml", "run", f"{town.url}/openapi.json"),
        *("--seed", "1", "--request-timeout", "20", "--continue-on-failure", "--no-color", *options),
        env={**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE)},
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-20_000:]


ADMIN = ("-H", "X-API-Key: the-admin-key")


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("--phases", "examples,fuzzing", "-n", "2"), id="anonymous"),
        pytest.param(("--phases", "examples,fuzzing", "-n", "3", *ADMIN), id="admin"),
    ],
)
async def test_no_answer_differs_from_its_description(
    described: Any, tmp_path: Path, options: tuple[str, ...]
) -> None:
    await schemathesis(described, tmp_path, *options)


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    "options",
    [pytest.param(("-n", "20"), id="anonymous"), pytest.param(("-n", "100", *ADMIN), id="admin")],
)
async def test_no_answer_differs_from_its_description_in_many_requests(
    described: Any, tmp_path: Path, options: tuple[str, ...]
) -> None:
    await schemathesis(described, tmp_path, "--phases", "examples,coverage,fuzzing", *options)


async def test_every_operation_has_a_name_that_stays_and_says_how_it_refuses(town: Any) -> None:
    schema = (await town.http.get("/openapi.json")).json()
    operations = [
        (method, path, operation)
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    names = [operation["operationId"] for _, _, operation in operations]
    assert len(set(names)) == len(names) > 50
    assert {"get_data", "get_files", "post_files", "post_batches", "get_jobs_job_id_events"} <= set(names)
    for method, path, operation in operations:
        assert re.fullmatch(rf"{method}_[a-z_]+", operation["operationId"])
        assert operation["security"], path
        for code, answer in operation["responses"].items():
            if code[0] in "45" and method != "head" and (path, code) not in OTHER_REFUSALS:
                refusal = "application/problem+json"
                if path.startswith("/htsget/"):
                    refusal = "application/vnd.ga4gh.htsget.v1.3.0+json"
                assert list(answer["content"]) == [refusal], (method, path, code)
        assert {"4XX", "5XX"} <= set(operation["responses"])
        if method == "post":
            (body,) = operation["requestBody"]["content"].values()
            assert body["schema"], path
    assert schema["components"]["securitySchemes"]["ApiKey"]["name"] == "X-API-Key"
    assert "HTTPValidationError" not in schema["components"]["schemas"]


OTHER_REFUSALS = {("/files/import", "422"), ("/readyz", "503")}
"""Which say more than a problem does: what became of each line, and of each dependency."""


async def test_what_needs_a_key_says_so(town: Any) -> None:
    schema = (await town.http.get("/openapi.json")).json()
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            filled = re.sub(r"\{(\w+)\}", lambda word: EXAMPLE.get(word[1], "none"), path)
            if filled.endswith("/events"):
                continue  # ends when the job does
            answer = await town.http.request(method, filled, content=b"{}" if method == "post" else None)
            needs = {} not in operation["security"]
            assert (answer.status_code == 401) == needs, (method, path, answer.status_code)


async def test_allow_lists_exactly_what_a_path_knows_and_head_is_where_get_is(described: Any) -> None:
    town = described
    schema = (await town.http.get("/openapi.json")).json()
    key = {"X-API-Key": "the-admin-key"}
    paths = {re.sub(r"\{(\w+)\}", lambda w: EXAMPLE.get(w[1], "none"), path) for path in schema["paths"]}
    # A stream that does not end by itself.
    for path in {*paths - {"/events"}, "/events?seconds=0", "/", "/openapi.json"}:
        allow = set((await town.http.options(path)).headers["allow"].split(", "))
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
            answer = await town.http.request(method, path, headers=key, content=b"\xff")
            assert (answer.status_code == 405) == (method not in allow), (method, path, answer.status_code)
            if answer.status_code == 405:
                assert set(answer.headers["allow"].split(", ")) == allow, (method, path)
            if method == "DELETE":
                await town.register(**EXAMPLE)
        get, head = await town.http.get(path, headers=key), await town.http.head(path, headers=key)
        if get.status_code == 202:
            assert head.status_code == 404  # HEAD starts no work
            continue
        assert head.status_code == get.status_code, path
        assert head.content == b""
        assert head.headers.get("content-type") == get.headers.get("content-type"), path
