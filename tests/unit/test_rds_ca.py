"""The root certificates of Amazon RDS: what is in the file, where the image has it, and who names it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes

ROOT = Path(__file__).parents[2]
FILE = ROOT / "deploy" / "rds-ca.pem"
CERTIFICATES = x509.load_pem_x509_certificates(FILE.read_bytes())


def test_each_region_has_a_root_of_each_kind_that_has_signed_itself_and_lasts() -> None:
    names = [one.subject.rfc4514_string() for one in CERTIFICATES]
    regions: dict[str, set[str]] = {}
    for name in names:
        found = re.search(r"CN=Amazon RDS (\S+) Root CA (\S+) G1", name)
        assert found is not None, name
        regions.setdefault(found[1], set()).add(found[2])
    assert len(names) == len({one.fingerprint(hashes.SHA256()) for one in CERTIFICATES})
    assert len(regions) >= 27
    assert {"us-east-1", "us-west-2", "eu-central-1", "eu-north-1", "ap-northeast-1"} <= regions.keys()
    assert all(kinds == {"RSA2048", "RSA4096", "ECC384"} for kinds in regions.values())
    for one in CERTIFICATES:
        one.verify_directly_issued_by(one)
        assert one.not_valid_after_utc > datetime.now(UTC) + timedelta(days=3650)
        assert one.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_image_has_it_where_the_template_s_urls_name_it() -> None:
    dockerfile = (ROOT / "Dockerfile.api").read_text()
    template = (ROOT / "deploy" / "cloudformation" / "gooseherd.yaml").read_text()
    copied = re.findall(r"^COPY .*deploy/rds-ca\.pem (\S+)$", dockerfile, re.MULTILINE)
    named = re.findall(r"(?:sslrootcert|tlsCAFile)=([^&\s\",\]]+)", template)
    assert len(copied) == 1
    assert sorted(set(named)) == copied
    assert len(named) == 2, "RDS and DocumentDB"
