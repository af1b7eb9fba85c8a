"""Clients of TLS that send what Python's do not: octets without end, and none for the application."""

import _ssl
import contextlib
import ctypes
import hashlib
import hmac
import ssl
from pathlib import Path

import pytest

NULL = "ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"
"""Of TLS 1.2, and encrypts nothing: records can be made without OpenSSL."""


class Libssl:
    """A client of TLS 1.3, made of the libssl that the ssl module has."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL(_ssl.__file__)
        try:
            context = self._pointer("SSL_CTX_new", self._pointer("TLS_client_method"))
        except AttributeError:
            pytest.skip("the ssl module keeps its libssl to itself")
        self._ssl = self._pointer("SSL_new", context)
        self._incoming, self._outgoing = (
            self._pointer("BIO_new", self._pointer("BIO_s_mem")) for _ in range(2)
        )
        self._pointer("SSL_set_bio", self._ssl, self._incoming, self._outgoing)
        self._pointer("SSL_set_connect_state", self._ssl)

    def _pointer(self, name: str, *arguments: ctypes.c_void_p) -> ctypes.c_void_p:
        function = self._lib[name]
        function.restype = ctypes.c_void_p
        return ctypes.c_void_p(function(*arguments))

    def shake(self, octets: bytes) -> bytes:
        """The client's answer to ``octets`` of the server."""
        self._lib.BIO_write(self._incoming, octets, len(octets))
        self._lib.SSL_do_handshake(self._ssl)
        return self._written()

    def update_keys(self, count: int, *, both: bool = False) -> bytes:
        """So many KeyUpdates. ``both``: the server shall answer each."""
        for _ in range(count):
            self._lib.SSL_key_update(self._ssl, int(both))
            self._lib.SSL_do_handshake(self._ssl)
        return self._written()

    def record(self, octets: bytes) -> bytes:
        self._lib.SSL_write(self._ssl, octets, len(octets))
        return self._written()

    def end(self) -> bytes:
        """Its close_notify."""
        self._lib.SSL_shutdown(self._ssl)
        return self._written()

    def _written(self) -> bytes:
        buffer = ctypes.create_string_buffer(65536)
        octets = b""
        while (count := self._lib.BIO_read(self._outgoing, buffer, len(buffer))) > 0:
            octets += buffer.raw[:count]
        return octets


class Renegotiator:
    """A client of TLS 1.2 that begins again and again."""

    def __init__(self, keys: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(NULL)
        context.keylog_filename = str(keys)
        self._keys = keys
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._hello = self._hello_of_server = b""
        self._number = 1  # of the next record; the handshake's last one had none before it

    def shake(self, octets: bytes) -> bytes:
        """The client's answer to ``octets`` of the server."""
        self._hello_of_server = self._hello_of_server or octets
        self._incoming.write(octets)
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        written = self._outgoing.read()
        self._hello = self._hello or written[5:]
        return written

    def hellos(self, count: int) -> bytes:
        return b"".join(self.record(self._hello, 22) for _ in range(count))

    def record(self, octets: bytes, kind: int = 23) -> bytes:
        """RFC 5246 section 6.2.3.1, and 6.3 for the key."""
        _, _, secret = self._keys.read_text().split("\n")[-2].split()
        randoms = self._hello_of_server[11:43] + self._hello[6:38]
        key = _expand(bytes.fromhex(secret), b"key expansion" + randoms)[:20]
        head = bytes([kind, 3, 3])
        signed = self._number.to_bytes(8, "big") + head + len(octets).to_bytes(2, "big") + octets
        self._number += 1
        mac = hmac.digest(key, signed, "sha1")
        return head + (len(octets) + len(mac)).to_bytes(2, "big") + octets + mac


def _expand(secret: bytes, seed: bytes) -> bytes:
    """The first octets of RFC 5246's P_hash."""
    return hmac.digest(secret, hmac.digest(secret, seed, "sha256") + seed, hashlib.sha256)
