"""The context of a TLS server: what can be wrong with its files, and what is said then."""

import os
import ssl
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from forkserve.errors import ForkserveError
from forkserve.net.certificate import unfit, validity
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
    assert made.options & ssl.OP_NO_RENEGOTIATION  # CVE-2011-1473
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
    assert f"(`keyfile`) is not that of the first certificate in {pem} (`certfile`)" in refusal(
        certfile=pem, keyfile=certificates.key("other"))  # fmt: skip
    assert "sealed (`keyfile`) is encrypted" in refusal(certfile=pem, keyfile=sealed)
    assert refusal(certfile=str(broken), keyfile=key) == (
        f"{broken} (`certfile`) is broken: OpenSSL reads no certificate in it. Install it anew"
    )
    spoilt = tmp_path / "spoilt"
    spoilt.write_text(Path(key).read_text().replace("M", "N"))
    assert refusal(certfile=pem, keyfile=str(spoilt)) == (
        f"{spoilt} (`keyfile`) is broken: OpenSSL reads no private key in it. Install it anew"
    )
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


SECOND = timedelta(seconds=1)


def date(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def test_when_a_certificate_is_valid(certificates: Certificates, tmp_path: Path) -> None:
    pem = certificates.pem("server")
    shown = certificates.openssl("x509", "-in", pem, "-noout", "-dates").splitlines()
    dates = tuple(date(ssl.cert_time_to_seconds(line.partition("=")[2])) for line in shown)
    both = tmp_path / "both.pem"
    both.write_text(Path(certificates.key("server")).read_text() + Path(pem).read_text())
    assert validity(Path(pem).read_bytes()) == validity(both.read_bytes()) == dates
    begin, end = dates
    assert unfit(pem, begin) is unfit(pem, end) is None
    assert f"{pem} (`certfile`) is valid from " in str(unfit(pem, begin - SECOND))
    assert f"{pem} (`certfile`) expired on " in str(unfit(pem, end + SECOND))


@pytest.mark.parametrize(
    ("kind", "text", "seconds"),
    [
        (0x17, "491231235959Z", 2524607999),
        (0x17, "700101000000Z", 0),
        (0x18, "20500101000000Z", 2524608000),
        (0x18, "99991231235959Z", 253402300799),
    ],
)
def test_times_of_certificates(kind: int, text: str, seconds: int) -> None:
    def wrap(kind: int, *parts: bytes) -> bytes:
        content = b"".join(parts)
        return bytes([kind, 0x82]) + len(content).to_bytes(2, "big") + content

    time = wrap(kind, text.encode())
    serial = wrap(2, b"\1")
    for version in (b"", wrap(0xA0, serial)):  # of version 1 it is left out
        to_be_signed = wrap(0x30, version, serial, wrap(0x30), wrap(0x30), wrap(0x30, time, time))
        pem = ssl.DER_cert_to_PEM_cert(wrap(0x30, to_be_signed)).encode()
        assert validity(pem) == (date(seconds), date(seconds))


@pytest.mark.parametrize("content", [b"", b"0", b"0\x84\xff\xff\xff\xff", b"\x30\x03\x02\x01\x01"])
def test_what_is_no_certificate_is_not_said_to_have_expired(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(content))
    assert unfit(str(path), date(0)) is None
    assert unfit(str(tmp_path / "none"), date(0)) is None


def test_who_serves_plain_http_does_not_load_ssl() -> None:
    code = "import forkserve.cli, sys; sys.exit('ssl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
