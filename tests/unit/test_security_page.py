"""docs/security.md names settings, files and limits: all of them have to be there, and as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gooseherd.certs import LEAF_DAYS
from gooseherd.control.manifest_verification import DIGESTED_BYTES
from gooseherd.domain.caller import Scope
from gooseherd.settings import Settings
from gooseherd.storage.s3_credentials import SECONDS, S3Credentials
from gooseherd.worker import sandbox_paths
from gooseherd.worker.tls import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
POLICY = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`([^`\n]+)`", PAGE + POLICY)))


@pytest.mark.parametrize(
    "name", [name for name in NAMES if re.fullmatch(r"[A-Z][A-Z0-9]+(_[A-Z0-9]+)+", name)]
)
def test_a_setting_that_is_named_exists(name: str) -> None:
    assert name.lower() in Settings.model_fields or name in VARIABLES


@pytest.mark.parametrize("name", [name for name in NAMES if re.fullmatch(r"[a-z_]+/[a-z_]+\.py", name)])
def test_a_module_that_is_named_exists(name: str) -> None:
    assert (ROOT / "src" / "gooseherd" / name).exists()


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)#:]+\.md)", PAGE))))
def test_a_page_that_is_linked_exists(link: str) -> None:
    assert (ROOT / "docs" / link).resolve().exists()


def test_the_limits_that_it_states_are_those_of_the_code() -> None:
    assert f"parts of up to {DIGESTED_BYTES >> 20} MiB only" in PAGE
    assert SECONDS == 3600, "an hour"
    assert f"{LEAF_DAYS} days" in PAGE
    for scope in Scope:
        assert f"`{scope}`" in PAGE
    for name in (".ssh", ".aws", ".gnupg", ".netrc", ".pgpass", ".docker", ".kube"):
        assert name in sandbox_paths._OF_HOME
        assert f"`~/{name}`" in PAGE


def test_credentials_of_an_attempt_can_what_it_says() -> None:
    policy = S3Credentials(
        "arn:aws:iam::123456789012:role/x", "bucket", "", endpoint_url=None, region="us-east-1"
    ).policy("p1/ab/")
    allowed = {
        action
        for statement in policy["Statement"]
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
        if action.startswith("s3:")
    }
    assert allowed == {"s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload"}
    assert "replace, delete, list, publish" in PAGE


def test_the_policy_leads_to_the_page_and_the_page_to_the_command() -> None:
    assert "docs/security.md" in POLICY
    assert "gooseherd doctor --exposure" in PAGE
    assert "gooseherd doctor --exposure" in POLICY
