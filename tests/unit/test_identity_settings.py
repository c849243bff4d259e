"""The identity provider as settings describe it: what is warned of before anybody shows a token."""

import logging

import pytest

from gooseherd.settings import Settings
from gooseherd.wiring.identity import open_identity_provider


@pytest.mark.parametrize(("claim", "warned"), [("sub", False), ("email", True), ("preferred_username", True)])
async def test_owners_by_a_claim_that_users_may_share_are_warned_of(
    caplog: pytest.LogCaptureFixture, claim: str, *, warned: bool
) -> None:
    settings = Settings(
        oidc_issuer="https://id.example.org", oidc_audience="https://herd.example.org", oidc_owner_claim=claim
    )
    with caplog.at_level(logging.WARNING, "gooseherd.wiring.identity"):
        opened = open_identity_provider(settings)
    assert opened is not None
    await opened[1]()
    assert [getattr(record, "claim", None) for record in caplog.records] == ([claim] if warned else [])
    assert not caplog.records or "share jobs" in caplog.text
