"""Makes the certificates by which API and workers know each other: a CA of their own and a pair for each.

Names are logical, for tasks have addresses nobody knows beforehand. The worker's certificate can
only serve and the API's can only call, so that a worker that was taken over cannot call others.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from gooseherd.domain.errors import InvalidInput

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate

WORKER_IDENTITY: Final = "worker.gooseherd.internal"
API_IDENTITY: Final = "api.gooseherd.internal"

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 397
"""A year and a month, the most that public CAs gave when browsers stopped believing in longer ones."""
EXPIRY_NOTICE: Final = timedelta(days=30)
"""Before the end of a certificate it is time to replace it: doctor and the log at the start warn."""
_BACKDATED: Final = timedelta(minutes=5)
"""For clocks that are behind ours."""

_LONGEST_COMMON_NAME: Final = 64

Use = Literal["serve", "call"]


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM."""

    cert: bytes
    key: bytes


def make_ca(now: datetime, *, days: int = CA_DAYS) -> Pair:
    """A certificate authority for this purpose alone; ECDSA P-256, as all keys here."""
    from cryptography import x509

    key = _key()
    name = _name("gooseherd workers CA")
    builder = (
        _builder(now, days)
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _signed(builder, key, key)


def make_leaf(ca: Pair, identity: str, use: Use, now: datetime, *, days: int = LEAF_DAYS) -> Pair:
    """A pair for one side of the conversation, valid for no longer than its CA.

    `identity` is a name or an IP address.

    Raises:
        InvalidInput: `ca` is not a CA's certificate with its key.
    """
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    ca_cert, ca_key = _load(ca)
    key = _key()
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if use == "serve" else ExtendedKeyUsageOID.CLIENT_AUTH
    builder = (
        _builder(now, days, ca_cert.not_valid_after_utc)
        .subject_name(_name(identity[:_LONGEST_COMMON_NAME]))
        .issuer_name(ca_cert.subject)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([_alternative_name(identity)]), critical=False)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    return _signed(builder, key, ca_key)


def make_all(
    folder: Path, *, days: int = LEAF_DAYS, renew: bool = False, now: datetime | None = None
) -> None:
    """Fill `folder` with ca.pem, ca.key, worker.pem, worker.key, api.pem and api.key; keys are mode 0600.

    `renew` keeps the CA that is there and replaces the pairs; otherwise the folder must be empty
    or new. Files appear all at once or, after an error, not at all.

    Raises:
        InvalidInput: there are files already, or with `renew` no CA.
    """
    now = now or datetime.now(UTC)
    if renew:
        try:
            ca = Pair((folder / "ca.pem").read_bytes(), (folder / "ca.key").read_bytes())
        except OSError:
            raise InvalidInput("folder", "has no ca.pem and ca.key to renew with") from None
    else:
        if folder.exists() and any(folder.iterdir()):
            raise InvalidInput("folder", "is not empty; --renew replaces the pairs and keeps the CA")
        ca = make_ca(now)
    pairs = {
        "worker": make_leaf(ca, WORKER_IDENTITY, "serve", now, days=days),
        "api": make_leaf(ca, API_IDENTITY, "call", now, days=days),
    }
    if not renew:
        pairs["ca"] = ca
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".certs-", dir=folder.parent))  # mode 0700
    try:
        for name, pair in pairs.items():
            write_private(draft / f"{name}.key", pair.key)
            (draft / f"{name}.pem").write_bytes(pair.cert)
            (draft / f"{name}.pem").chmod(0o644)
        if renew:
            for path in sorted(draft.iterdir()):
                path.replace(folder / path.name)
        else:
            draft.replace(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def make_host(
    folder: Path, host: str, into: Path, *, days: int = LEAF_DAYS, now: datetime | None = None
) -> None:
    """What one host with a worker gets, and no other key: `into` with ca.pem, worker.pem and worker.key.

    The CA is that of `folder`. A pair that is there is replaced. The certificate has the host's name and not
    that of all workers, so that its key serves for no other host.

    Raises:
        InvalidInput: `folder` has no CA, or `host` is no name.
    """
    if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", host):
        raise InvalidInput("host", "is no name of a host")
    try:
        ca = Pair((folder / "ca.pem").read_bytes(), (folder / "ca.key").read_bytes())
    except OSError:
        raise InvalidInput("folder", "has no ca.pem and ca.key") from None
    pair = make_leaf(ca, host.lower(), "serve", now or datetime.now(UTC), days=days)
    into.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = Path(tempfile.mkdtemp(prefix=".certs-", dir=into))
    try:
        write_private(draft / "worker.key", pair.key)
        for name, content in (("worker.pem", pair.cert), ("ca.pem", ca.cert)):
            (draft / name).write_bytes(content)
            (draft / name).chmod(0o644)
        for name in ("worker.key", "worker.pem", "ca.pem"):
            (draft / name).replace(into / name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_private(path: Path, data: bytes) -> None:
    """A new file that only its owner can read, at no moment anybody else. FileExistsError when it exists."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


def as_secret(folder: Path, side: str) -> dict[str, str]:
    """The variables of a `worker` or the `api` with what is in their files: the JSON of a secret."""
    files = {"CA": "ca.pem", "CERT": f"{side}.pem", "KEY": f"{side}.key"}
    return {f"WORKER_TLS_{name}": (folder / file).read_text("ascii") for name, file in files.items()}


def expiry(cert: bytes) -> datetime:
    """When a PEM certificate ends. InvalidInput: it is none."""
    return expiries(cert)[0]


def expiries(certs: bytes) -> list[datetime]:
    """When each of them ends, in their order; there is one at least. Raises InvalidInput likewise."""
    from cryptography import x509

    try:
        return [cert.not_valid_after_utc for cert in x509.load_pem_x509_certificates(certs)]
    except ValueError:
        raise InvalidInput("certificate", "is not a PEM certificate") from None


def validity(name: str, ends: datetime, now: datetime) -> tuple[bool, str]:
    """Whether it will last for `EXPIRY_NOTICE` more, and how long in words."""
    days = (ends - now).days
    if ends <= now:
        return False, f"{name} ended on {ends:%Y-%m-%d}"
    return ends - now > EXPIRY_NOTICE, f"{name} ends on {ends:%Y-%m-%d}, in {days} days"


def _builder(now: datetime, days: int, at_most: datetime | None = None) -> x509.CertificateBuilder:
    from cryptography import x509

    until = now + timedelta(days=days)
    return (
        x509.CertificateBuilder()
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(until if at_most is None else min(until, at_most))
    )


def _signed(
    builder: x509.CertificateBuilder, key: EllipticCurvePrivateKey, by: EllipticCurvePrivateKey
) -> Pair:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    cert = builder.sign(by, hashes.SHA256())
    return Pair(
        cert.public_bytes(Encoding.PEM),
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )


def _key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _name(common_name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _alternative_name(identity: str) -> x509.GeneralName:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(identity))
    except ValueError:
        return x509.DNSName(identity)


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _load(ca: Pair) -> tuple[Certificate, EllipticCurvePrivateKey]:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        cert = x509.load_pem_x509_certificate(ca.cert)
        key = load_pem_private_key(ca.key, password=None)
        signs = cert.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, x509.ExtensionNotFound):
        raise InvalidInput("ca", "is not a CA's certificate with its key") from None
    if not isinstance(key, EllipticCurvePrivateKey) or not signs or key.public_key() != cert.public_key():
        raise InvalidInput("ca", "is not a CA's certificate with its key")
    return cert, key
