"""Settings: what is refused, what follows from what is set, and the page generated from them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from gooseherd.domain.errors import Misconfigured
from gooseherd.domain.quantities import size_in_bytes
from gooseherd.exposure import examine_exposure
from gooseherd.settings import Profile, Settings, reference
from gooseherd.wiring.limits import running_limit

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def test_the_settings_page_is_fresh() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == reference()


def test_nothing_needs_to_be_set_on_a_laptop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    settings = Settings().checked()
    assert settings.profile is Profile.EMBEDDED
    assert settings.artifacts_dir == tmp_path / "gooseherd" / "artifacts"
    assert settings.api_host == "127.0.0.1"


def test_a_named_database_without_a_place_for_artifacts_turns_processing_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DATABASE_URL", "mongodb://db.example.org")
    assert Settings().artifacts_dir is None
    monkeypatch.setenv("SYNC_DATA_DIR", "/data")
    assert Settings().artifacts_dir == Path("/data")


def test_an_endpoint_is_the_only_difference_between_the_local_cloud_and_aws(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKFLOW_S3_BUCKET", "artifacts")
    assert Settings().profile is Profile.AWS
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    assert Settings().profile is Profile.DEVCLOUD


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        *((yes, True) for yes in ("ENABLED", "enabled", "true", "1")),
        *((no, False) for no in ("DISABLED", "Disabled", "false")),
    ],
)
def test_a_public_address_is_asked_for_in_ecs_s_words_too(
    monkeypatch: pytest.MonkeyPatch, text: str, *, wanted: bool
) -> None:
    monkeypatch.setenv("ECS_WORKER_ASSIGN_PUBLIC_IP", text)
    assert Settings().ecs_worker_assign_public_ip is wanted


def test_a_public_address_is_asked_for_in_no_other_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECS_WORKER_ASSIGN_PUBLIC_IP", "perhaps")
    with pytest.raises(ValidationError):
        Settings()


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ({}, 3600),
        ({"API_HOST": "::1"}, 3600),
        ({"API_HOST": "0.0.0.0"}, 60),
        ({"API_TRUSTED_PROXIES": "1"}, 60),
        ({"API_PUBLIC_URL": "https://herd.example.org"}, 60),
        ({"API_TRUSTED_PROXIES": "1", "API_UNREAD_SECONDS": "5"}, 5),
    ],
    ids=str,
)
def test_only_whoever_is_of_this_machine_may_leave_a_response_unread_for_an_hour(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], seconds: float
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    assert Settings().unread_seconds == seconds


@pytest.mark.parametrize(
    ("host", "proxies", "workers", "limit"),
    [
        ("127.0.0.1", "0", "2", 2),  # everybody is one requester
        ("127.0.0.1", "1", "2", 1),
        ("0.0.0.0", "0", "2", 1),
        ("0.0.0.0", "0", "8", 7),
        ("0.0.0.0", "0", "1", 1),
    ],
)
def test_one_requester_leaves_a_worker_to_others_if_there_can_be_others(
    monkeypatch: pytest.MonkeyPatch, host: str, proxies: str, workers: str, limit: int
) -> None:
    monkeypatch.setenv("API_HOST", host)
    monkeypatch.setenv("API_TRUSTED_PROXIES", proxies)
    monkeypatch.setenv("WORKER_MAX_LOCAL", workers)
    assert running_limit(Settings()) == limit
    monkeypatch.setenv("WORKFLOW_MAX_RUNNING_PER_REQUESTER", "5")
    assert running_limit(Settings()) == 5


@pytest.mark.parametrize(("text", "size"), [("256M", 2**28), ("2GiB", 2**31), ("10", 10), ("1 kb", 1024)])
def test_sizes_are_binary_multiples(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["lots", "-1M", "1.5G", "M"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a size such as"):
        size_in_bytes(text)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKFLOW_HEARTBEAT_SECONDS", "0"),
        ("API_PORT", "70000"),
        ("WORKER_MAX_LOCAL", "0"),
        ("SOURCE_MAX_BYTES", "x"),
    ],
)
def test_values_out_of_bounds_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        Settings()


def test_a_lease_shorter_than_two_heartbeats_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKFLOW_HEARTBEAT_SECONDS", "500")
    with pytest.raises(Misconfigured, match="WORKFLOW_STALE_SECONDS"):
        Settings().checked()


def test_local_files_are_for_workers_on_this_machine_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOURCE_FILE_ROOTS", str(tmp_path))
    Settings().checked()
    monkeypatch.setenv("WORKFLOW_S3_BUCKET", "artifacts")
    with pytest.raises(Misconfigured, match="SOURCE_FILE_ROOTS"):
        Settings().checked()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    Settings().checked()


def test_a_folder_of_local_files_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("SOURCE_FILE_ROOTS", f"{tmp_path}:{tmp_path / 'gone'}")
    with pytest.raises(Misconfigured, match=r"SOURCE_FILE_ROOTS.*gone: no such folder"):
        Settings().checked()


@pytest.mark.parametrize(
    ("given", "no_key"),
    [
        ({}, True),
        ({"API_PUBLIC_URL": "https://g.example"}, False),  # a tunnel, or a proxy that is not declared
        ({"API_TRUSTED_PROXIES": "1"}, False),
        ({"API_HOST": "0.0.0.0"}, False),
    ],
    ids=str,
)
def test_uploads_need_a_key_where_something_stands_in_front(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: dict[str, str], no_key: bool
) -> None:
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.nothing_in_front is no_key
    if settings.takes_uploads:
        found = examine_exposure(settings, {}).found
        (uploads,) = [one for one in found if one.name == "uploads"]
        assert uploads.credential.startswith("none") is no_key


@pytest.mark.parametrize(
    ("values", "state"),
    [
        ({}, "ok"),
        ({"API_HOST": "0.0.0.0"}, "note"),
        ({"API_TRUSTED_PROXIES": "1"}, "note"),
        ({"API_PUBLIC_URL": "https://g.example"}, "note"),
    ],
    ids=str,
)
def test_who_reads_metrics_is_said_by_doctor(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, values: dict[str, str], state: str
) -> None:
    monkeypatch.setenv("GOOSEHERD_STATE_DIR", str(tmp_path))
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    (found,) = [one for one in examine_exposure(Settings(), {}).found if one.name == "metrics"]
    assert found.state == state
    assert ("/metrics" in found.remedy) is (state == "note")
