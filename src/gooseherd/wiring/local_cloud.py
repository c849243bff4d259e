"""The key of the local cloud on this machine, where AWS_ENDPOINT_URL names it and no credentials are set."""

from __future__ import annotations

import os

from gooseherd.devcloud.access_key import names_credentials, of_endpoint
from gooseherd.settings import Settings


def use_key_of_local_cloud(settings: Settings) -> None:
    """Put the key into this process's environment if AWS_ENDPOINT_URL is the local cloud of the state folder.

    Whoever names credentials keeps them. Only the owner of the state folder can read the key.
    """
    if settings.aws_endpoint_url is None or names_credentials(os.environ):
        return
    if (key := of_endpoint(settings.aws_endpoint_url, settings.gooseherd_state_dir)) is not None:
        os.environ.update(key.environment())
