"""The certificates that `gooseherd certs` makes, and how a process is told of its own."""

from __future__ import annotations

import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from gooseherd import certs
from gooseherd.domain.errors import InvalidInput, Misconfigured
from gooseherd.worker.tls import VARIABLES, Certificates

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    certs.make_all(tmp_path / "certs", now=NOW)
    return tmp_path / "certs"


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(folder: Path, name: str, at: datetime) -> None:
    policy = PolicyBuilder().store(Store([load(folder / "ca.pem")])).time(at)
    if name == "worker":
        policy.build_server_verifier(x509.DNSName(certs.WORKER_IDENTITY)).verify(
            load(folder / "worker.pem"), []
        )
    else:
        policy.build_client_verifier().verify(load(folder / "api.pem"), [])


def test_each_pair_carries_its_name_and_only_its_use(folder: Path) -> None:
    for name, identity, use in (
        ("worker", certs.WORKER_IDENTITY, ExtendedKeyUsageOID.SERVER_AUTH),
        ("api", certs.API_IDENTITY, ExtendedKeyUsageOID.CLIENT_AUTH),
    ):
        extensions = load(folder / f"{name}.pem").extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == [identity]
        assert list(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [use]
        assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca


@pytest.mark.parametrize(
    ("host", "kind", "value"),
    [
        ("Node1.example.org", x509.DNSName, "node1.example.org"),
        (f"{'n' * 60}.example.org", x509.DNSName, f"{'n' * 60}.example.org"),
        ("10.0.0.2", x509.IPAddress, ip_address("10.0.0.2")),
    ],
)
def test_the_pair_of_a_host_has_its_name_and_not_that_of_all_workers(
    folder: Path, tmp_path: Path, host: str, kind: type[x509.GeneralName], value: object
) -> None:
    certs.make_host(folder, host, tmp_path / "host", now=NOW)
    names = load(tmp_path / "host" / "worker.pem").extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert [(type(name), name.value) for name in names.value] == [(kind, value)]


@pytest.mark.parametrize("name", ["worker", "api"])
def test_a_pair_is_valid_below_its_ca_for_its_time(folder: Path, name: str) -> None:
    verify(folder, name, NOW)
    verify(folder, name, NOW + timedelta(days=certs.LEAF_DAYS - 1))
    with pytest.raises(VerificationError):
        verify(folder, name, NOW + timedelta(days=certs.LEAF_DAYS + 1))
    with pytest.raises(VerificationError):
        verify(folder, name, NOW - timedelta(hours=1))


def test_a_pair_does_not_outlive_its_ca() -> None:
    ca = certs.make_ca(NOW, days=10)
    leaf = certs.make_leaf(ca, "x.internal", "call", NOW, days=100)
    assert certs.expiry(leaf.cert) == certs.expiry(ca.cert) == NOW + timedelta(days=10)


def test_keys_are_on_p256_and_their_owners_alone(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "api.key", "api.pem", "ca.key", "ca.pem", "worker.key", "worker.pem",
    ]  # fmt: skip
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for name in ("ca", "worker", "api"):
        assert stat.S_IMODE((folder / f"{name}.key").stat().st_mode) == 0o600
        public_key = load(folder / f"{name}.pem").public_key()
        assert isinstance(public_key, EllipticCurvePublicKey)
        assert isinstance(public_key.curve, SECP256R1)


def test_a_folder_with_files_is_left_alone(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(InvalidInput):
        certs.make_all(folder, now=NOW)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_renewing_replaces_the_pairs_below_the_same_ca(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    later = NOW + timedelta(days=300)
    certs.make_all(folder, now=later, renew=True)
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in before if before[name] == after[name]} == {"ca.key", "ca.pem"}
    verify(folder, "worker", later + timedelta(days=certs.LEAF_DAYS - 1))
    assert stat.S_IMODE((folder / "api.key").stat().st_mode) == 0o600
    assert list(folder.parent.iterdir()) == [folder]


def test_renewing_needs_a_ca(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"ca\.pem"):
        certs.make_all(tmp_path / "none", renew=True)
    with pytest.raises(InvalidInput, match="CA's certificate"):
        leaf = certs.make_leaf(certs.make_ca(NOW), "x.internal", "serve", NOW)
        certs.make_leaf(leaf, "y.internal", "serve", NOW)


def test_nothing_heavy_is_imported_before_a_certificate_is_made() -> None:
    code = "import sys, gooseherd.certs; sys.exit('cryptography' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def named(folder: Path) -> dict[str, str]:
    files = ("ca.pem", "worker.pem", "worker.key")
    return {name: str(folder / file) for name, file in zip(VARIABLES, files, strict=True)}


def texts(folder: Path) -> dict[str, str]:
    return {name: Path(path).read_text() for name, path in named(folder).items()}


def test_without_variables_there_are_no_certificates() -> None:
    assert Certificates.from_env({"PATH": "/bin", VARIABLES[0]: ""}) is None


def test_paths_and_texts_say_the_same(folder: Path) -> None:
    by_path, by_text = Certificates.from_env(named(folder)), Certificates.from_env(texts(folder))
    one_line = Certificates.from_env({k: v.replace("\n", "\\n") for k, v in texts(folder).items()})
    assert by_path is not None
    assert by_text is not None
    assert one_line is not None
    assert by_path.are_files
    assert not by_text.are_files
    material = by_path.to_call().credentials.get()
    assert material == by_text.to_call().credentials.get() == one_line.to_call().credentials.get()
    assert material.mutual


@pytest.mark.parametrize("left_out", VARIABLES)
def test_some_variables_without_the_others_are_refused(folder: Path, left_out: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Certificates.from_env({**named(folder), left_out: ""})
    assert refused.value.setting == left_out


@pytest.mark.parametrize("value", ["/nowhere/key.pem", __file__, "secret-without-dashes"])
def test_what_cannot_be_used_is_refused_without_being_shown(folder: Path, value: str) -> None:
    with pytest.raises(Misconfigured) as refused:
        Certificates.from_env({**named(folder), "WORKER_TLS_KEY": value})
    assert refused.value.setting == "WORKER_TLS_KEY"
    assert value not in str(refused.value)


def test_replaced_files_are_taken_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gooseherd.worker.tls._FRESH_FOR", timedelta(milliseconds=1))
    given = Certificates.from_env(named(folder))
    assert given is not None
    serving, calling = given.to_serve(reloadable=True), given.to_call()
    certs.make_all(folder, renew=True)
    new = (folder / "worker.pem").read_bytes()
    deadline = time.monotonic() + 20
    while not serving.credentials.get().worker_cert == calling.credentials.get().worker_cert == new:
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_grpc_is_given_certificates_when_they_have_changed_and_at_no_other_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gooseherd.worker.tls._FRESH_FOR", timedelta(milliseconds=1))
    given = Certificates.from_env(named(folder))
    assert given is not None
    serving = given.to_serve(reloadable=True)
    assert serving.credentials.get().server_certificate_configuration() is not None
    for _ in range(20):
        time.sleep(0.002)  # they are read again, and are the same
        assert serving.credentials.get().server_certificate_configuration() is None
    certs.make_all(folder, renew=True)
    deadline = time.monotonic() + 20
    while serving.credentials.get().server_certificate_configuration() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert serving.credentials.get().worker_cert == (folder / "worker.pem").read_bytes()


def test_a_key_of_another_certificate_is_refused(folder: Path) -> None:
    with pytest.raises(Misconfigured, match="WORKER_TLS_KEY: not a certificate and its"):
        Certificates.from_env({**named(folder), "WORKER_TLS_KEY": str(folder / "api.key")})
    with pytest.raises(Misconfigured, match="WORKER_TLS_CA: holds no certificate"):
        Certificates.from_env({**named(folder), "WORKER_TLS_CA": str(folder / "ca.key")})


def test_texts_become_files_that_nobody_else_reads(folder: Path, tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    given = Certificates.from_env({**texts(folder), "WORKER_TLS_CA": named(folder)["WORKER_TLS_CA"]})
    assert given is not None
    made = given.as_files(private)
    assert made.ca == named(folder)["WORKER_TLS_CA"]
    assert Path(made.key).read_bytes() == (folder / "worker.key").read_bytes()
    assert {stat.S_IMODE(path.stat().st_mode) for path in private.iterdir()} == {0o600}
    assert len(list(private.iterdir())) == 2


def test_a_secret_has_the_variables_of_one_side_and_no_other_key(tmp_path: Path) -> None:
    certs.make_all(tmp_path / "certs")
    secret = certs.as_secret(tmp_path / "certs", "worker")
    assert Certificates.from_env(secret) is not None
    api_key = (tmp_path / "certs" / "api.key").read_text()
    assert api_key not in secret.values()
