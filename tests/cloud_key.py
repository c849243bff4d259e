"""The access key of every local cloud that this test process starts: session fixtures share one."""

from __future__ import annotations

import os

from gooseherd.devcloud.access_key import ID_VARIABLE, SECRET_VARIABLE, AccessKey

CLOUD_KEY = AccessKey.made()
os.environ.update({ID_VARIABLE: CLOUD_KEY.key_id, SECRET_VARIABLE: CLOUD_KEY.secret})
