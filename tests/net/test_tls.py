"""The context of a TLS server: what can be wrong with its files, and what is said then."""

import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from forkserve.errors import ForkserveError
from forkserve.net.tls import distinguished_name, server_context
from tests.certificates import Certificates


def context(
    certfile: str,
    keyfile: str | None = None,
    ca_certs: str | None = None,
    cert_reqs: str = "none",
    ciphers: str | None = None,
    min_version: str = "1.2",
) -> ssl.SSLContext:
    return server_context(certfile, keyfile, ca_certs, cert_reqs, ciphers, min_version)


def test_certificate_and_key_in_one_file(certificates: Certificates, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(
        Path(certificates.pem("server")).read_text() + Path(certificates.key("server")).read_text()
    )
    assert context(str(both)).verify_mode is ssl.CERT_NONE


def test_what_the_settings_say(certificates: Certificates) -> None:
    made = context(
        certificates.pem("server"), certificates.key("server"), certificates.pem("ca"),
        "required", "ECDHE-ECDSA-AES256-GCM-SHA384", "1.3",
    )  # fmt: skip
    assert made.verify_mode is ssl.CERT_REQUIRED
    assert made.minimum_version is ssl.TLSVersion.TLSv1_3
    assert [item["subject"] for item in made.get_ca_certs()]
    assert "ECDHE-ECDSA-AES256-GCM-SHA384" in [item["name"] for item in made.get_ciphers()]
    assert "ECDHE-RSA-AES128-GCM-SHA256" not in [item["name"] for item in made.get_ciphers()]


def refusal(**files: str) -> str:
    with pytest.raises(ForkserveError) as caught:
        context(**files)
    return caught.value.report()


def test_what_can_be_wrong(certificates: Certificates, tmp_path: Path) -> None:
    pem, key = certificates.pem("server"), certificates.key("server")
    empty, broken = tmp_path / "empty", tmp_path / "broken"
    empty.touch()
    broken.write_text(Path(pem).read_text().replace("M", "N"))
    sealed = str(tmp_path / "sealed")
    certificates.openssl("ec", "-in", key, "-aes256", "-passout", "pass:x", "-out", sealed)

    assert "none.pem (`certfile`) cannot be read by the master: No such" in refusal(
        certfile=str(tmp_path / "none.pem"))  # fmt: skip
    assert "(`keyfile`) cannot be read" in refusal(certfile=pem, keyfile="/nonexistent")
    assert "(`ca_certs`) cannot be read" in refusal(
        certfile=pem, keyfile=key, ca_certs=str(tmp_path))  # fmt: skip
    os.mkfifo(tmp_path / "pipe")  # which nobody writes: opening it would not end
    assert "pipe (`certfile`) cannot be read by the master: it is not a regular" in refusal(
        certfile=str(tmp_path / "pipe"))  # fmt: skip
    assert "empty (`certfile`) holds no certificate" in refusal(certfile=str(empty))
    assert f"{pem} (`certfile`, without a `keyfile`) holds no private key" in refusal(certfile=pem)
    assert f"{pem} (`keyfile`) holds no private key" in refusal(certfile=pem, keyfile=pem)
    assert "is not that of the certificate" in refusal(
        certfile=pem, keyfile=certificates.key("other"))  # fmt: skip
    assert "sealed (`keyfile`) is encrypted" in refusal(certfile=pem, keyfile=sealed)
    assert "is broken" in refusal(certfile=str(broken), keyfile=key)
    assert "holds no certificate" in refusal(certfile=pem, keyfile=key, ca_certs=str(empty))
    assert "knows no cipher in 'ROT13'" in refusal(certfile=pem, keyfile=key, ciphers="ROT13")


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), ""),
        (((("countryName", "DE"),), (("organizationName", "O"),), (("commonName", "a"),)),
         "CN=a,O=O,C=DE"),
        (((("commonName", "a"), ("userId", "u")),), "CN=a+UID=u"),
        (((("commonName", 'x,CN="root"+1;<>\\='),),), r'CN=x\,CN\=\"root\"\+1\;\<\>\\\='),
        (((("commonName", " #a "),),), r"CN=\ #a\ "),
        (((("commonName", "#a"),),), r"CN=\#a"),
        (((("commonName", "a\nX: b\0"),),), r"CN=a\0AX: b\00"),
        (((("commonName", "\u00e9\u20ac"),),), "CN=\xc3\xa9\xe2\x82\xac"),
    ],
)  # fmt: skip
def test_a_distinguished_name_as_text(names: tuple, text: str) -> None:  # type: ignore[type-arg]
    assert distinguished_name(names) == text


def test_who_serves_plain_http_does_not_load_ssl() -> None:
    code = "import forkserve.cli, sys; sys.exit('ssl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
