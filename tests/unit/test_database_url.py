"""What DATABASE_URL itself endangers, as `gooseherd doctor` says it."""

from __future__ import annotations

import pytest

from gooseherd.store.report import url_dangers

SECRET = "sekrit"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@db.example.org/g?sslmode=verify-full&sslrootcert=/etc/gooseherd/rds-ca.pem",
        "postgresql://u:p@127.0.0.1:5432/g",
        "postgresql://u@/g?host=/run/postgresql",
        "postgresql://u@[::1]/g?sslmode=require",
        "postgresql://u@localhost/g",
        "mongodb://u:p@db.example.org/?tls=true&tlsCAFile=/etc/gooseherd/rds-ca.pem",
        "mongodb+srv://u:p@db.example.org/",
        "mongodb://127.0.0.1:27017,localhost:27018/",
        "sqlite:///folder/file.db",
    ],
)
def test_a_server_that_is_verified_or_on_this_machine_is_no_danger(url: str) -> None:
    assert url_dangers(url) == ()


@pytest.mark.parametrize(
    ("url", "named", "remedy"),
    [
        (f"postgresql://u:{SECRET}@db/g", "sslmode=prefer", "sslmode=verify-full"),
        (f"postgres://u:{SECRET}@db/g?sslmode=require", "sslmode=require", "sslrootcert="),
        (f"postgresql://u:{SECRET}@db/g?sslmode=verify-ca", "sslmode=verify-ca", "sslmode=verify-full"),
        (f"postgresql://u:{SECRET}@127.0.0.1,db/g?sslmode=disable", "sslmode=disable", "sslmode=verify-full"),
        (f"postgresql:///g?host=db&password={SECRET}", "sslmode=prefer", "sslmode=verify-full"),
        (
            f"mongodb://u:{SECRET}@db/?tls=true&tlsAllowInvalidCertificates=true",
            "tlsAllowInvalid",
            "tlsCAFile",
        ),
        (f"mongodb://u:{SECRET}@db/?ssl=true&TLSINSECURE=true", "tlsInsecure", "tlsCAFile"),
        (
            f"mongodb+srv://u:{SECRET}@db/?tlsAllowInvalidHostnames=true",
            "tlsAllowInvalidHostnames",
            "tlsCAFile",
        ),
        (f"mongodb://u:{SECRET}@db/", "without TLS", "tls=true"),
        (f"mongodb+srv://u:{SECRET}@db/?tls=false", "without TLS", "tls=true"),
    ],
)
def test_a_server_elsewhere_that_is_not_verified_is_a_danger_with_its_remedy(
    url: str, named: str, remedy: str
) -> None:
    (danger,) = url_dangers(url)
    assert named in danger.what
    assert remedy in danger.remedy
    assert SECRET not in danger.what + danger.remedy
