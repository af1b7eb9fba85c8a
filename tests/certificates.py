"""Certificates for tests, made with the command openssl."""

import subprocess
from pathlib import Path

from tests.conftest import need


class Certificates:
    """``ca``, and what it has issued: each a pair of files, NAME.pem and NAME.key."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._program = need("openssl")
        self._make("ca", "/O=Tests/CN=Authority", "-addext", "keyUsage=critical,keyCertSign")
        self._issue("server", "/CN=localhost")
        self._issue("other", "/CN=other.example")
        self._issue("client", "/C=DE/O=Caf\u00e9, Inc./CN=alice")
        # OpenSSL takes it, and Python cannot say what is in it.
        self._issue("unreadable", "/CN=eve", "DNS:\udcff")
        self._make("stranger", "/CN=mallory")

    def pem(self, name: str) -> str:
        return str(self.directory / f"{name}.pem")

    def key(self, name: str) -> str:
        return str(self.directory / f"{name}.key")

    def settings(self, name: str = "server", **more: str) -> dict[str, str]:
        return {"certfile": self.pem(name), "keyfile": self.key(name), **more}

    def openssl(self, *arguments: str) -> str:
        return subprocess.run(
            [self._program, *arguments], check=True, capture_output=True, text=True
        ).stdout

    def _issue(self, name: str, subject: str, names: str = "DNS:localhost,IP:127.0.0.1") -> None:
        issuer = ("-CA", self.pem("ca"), "-CAkey", self.key("ca"))
        self._make(name, subject, *issuer, "-addext", f"subjectAltName={names}")

    def _make(self, name: str, subject: str, *options: str) -> None:
        self.openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-utf8", "-days", "2", "-subj", subject, *options,
            "-keyout", self.key(name), "-out", self.pem(name),
        )  # fmt: skip
