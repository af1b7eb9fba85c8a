"""TLS on a socket of ours: the context of a server, and a socket that behaves like a plain one.

Whoever serves plain HTTP never imports this module: ``ssl`` costs a start some milliseconds and a
process some memory.
"""

import contextlib
import errno
import os
import re
import select
import socket
import ssl
import stat
from typing import Any

from forkserve.errors import ForkserveError

# The most that one record carries (RFC 8446 section 5.1).
_RECORD = 16384

# Decrypted at once: a client can send a record an octet, and each takes two system calls.
_RECORDS = 64

_VERIFY = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

# RFC 4514 section 3; the last two are not in it, and usual.
_SHORT_NAMES = {
    "commonName": "CN", "localityName": "L", "stateOrProvinceName": "ST", "organizationName": "O",
    "organizationalUnitName": "OU", "countryName": "C", "streetAddress": "STREET",
    "domainComponent": "DC", "userId": "UID", "emailAddress": "emailAddress",
    "serialNumber": "serialNumber",
}  # fmt: skip


def server_context(
    certfile: str,
    keyfile: str | None,
    ca_certs: str | None,
    cert_reqs: str,
    ciphers: str | None,
    min_version: str,
) -> ssl.SSLContext:
    """The context of a server. Reads the files; the sockets that it wraps are TlsSockets.

    ``cert_reqs`` is "none", "optional" or "required", ``min_version`` "1.2" or "1.3". Raises
    ForkserveError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sslsocket_class = TlsSocket
    context.minimum_version = _VERSIONS[min_version]
    # A client that renegotiates costs much and gains nothing (CVE-2011-1473).
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A client that half-closes, and does not say so in TLS, still reads. Nothing is taken for whole
    # that is not: each request says where it ends. (Not in OpenSSL 1.1.1, nor needed there.)
    context.options |= getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    context.set_alpn_protocols(["http/1.1"])
    if ciphers is not None:
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError:
            raise ForkserveError(
                f"OpenSSL knows no cipher in {ciphers!r} (`ciphers`): see openssl-ciphers(1). "
                "Those of TLS 1.3 are always on, and cannot be named here"
            ) from None
    _load_pair(context, certfile, keyfile)
    if ca_certs is not None:
        _read(ca_certs, "ca_certs")
        try:
            context.load_verify_locations(ca_certs)
        except (ssl.SSLError, ValueError):
            raise ForkserveError(
                f"{ca_certs} (`ca_certs`) holds no certificate, or a broken one: it must be PEM"
            ) from None
    context.verify_mode = _VERIFY[cert_reqs]
    return context


def _load_pair(context: ssl.SSLContext, certfile: str, keyfile: str | None) -> None:
    """Load certificate and key. Raises ForkserveError."""
    text = _read(certfile, "certfile")
    key_text = text if keyfile is None else _read(keyfile, "keyfile")
    key = f"{keyfile} (`keyfile`)" if keyfile else f"{certfile} (`certfile`, without a `keyfile`)"
    if b"-----BEGIN " not in text or b"CERTIFICATE-----" not in text:
        raise ForkserveError(f"{certfile} (`certfile`) holds no certificate in PEM")
    if b"PRIVATE KEY-----" not in key_text:
        raise ForkserveError(f"{key} holds no private key in PEM")

    def ask() -> str:
        # There may be no terminal, and a reload could not wait for one.
        raise ForkserveError(f"the key in {key} is encrypted: decrypt it with `openssl pkey`")

    try:
        context.load_cert_chain(certfile, keyfile, ask)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            why = (
                f"the key in {key} is not that of the first certificate in {certfile} (`certfile`)"
            )
        elif reason in ("EE_KEY_TOO_SMALL", "CA_MD_TOO_WEAK", "CA_KEY_TOO_SMALL"):
            why = f"OpenSSL finds {certfile} (`certfile`) too weak ({reason}): have it made anew"
        elif not _holds_certificates(certfile):
            why = (
                f"{certfile} (`certfile`) is broken: OpenSSL reads no certificate in it. "
                "Install it anew"
            )
        else:
            why = f"{key} is broken: OpenSSL reads no private key in it. Install it anew"
        raise ForkserveError(why) from None


def _holds_certificates(path: str) -> bool:
    """What OpenSSL says of a broken file does not tell whether it was that of the key."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except (ssl.SSLError, ValueError):
        return False
    return True


def _read(path: str, setting: str) -> bytes:
    """The octets of a file. Raises ForkserveError: OpenSSL would not say which file it was."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            # A reload reads it again, and a pipe without a writer would stop the master.
            raise OSError(errno.EINVAL, "it is not a regular file")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ForkserveError(
            f"{path} (`{setting}`) cannot be read by the master: {error.strerror}"
        ) from None


class TlsSocket(ssl.SSLSocket):
    """The server's end of a TLS connection, non-blocking, for callers who expect a plain socket.

    ``recv``, ``send`` and ``shutdown`` do what theirs do, BlockingIOError included. Nothing that is
    decrypted ever waits in here, so that epoll, which sees the kernel's socket, tells the truth.
    """

    _ended = False  # nothing is encrypted or decrypted any more

    def handshake(self) -> int:
        """Go on with the handshake, as far as that is possible without waiting.

        Returns 0 when it is complete, else what it waits for, EPOLLIN or EPOLLOUT. Raises
        ConnectionError if the client is gone, OSError with OpenSSL's ``reason`` for all else.
        """
        try:
            self.do_handshake()
        except ssl.SSLWantReadError:
            return select.EPOLLIN
        except ssl.SSLWantWriteError:
            return select.EPOLLOUT
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError) as error:
            raise ConnectionAbortedError(str(error)) from None
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                # It was reset before it was wrapped, and there never was any TLS on it.
                raise ConnectionAbortedError(str(error)) from None
            raise
        return 0

    def recv(self, buflen: int = _RECORD, flags: int = 0) -> bytes:
        """As many whole records as it takes to have ``buflen`` octets, or as there are, but so many
        that others have their turn.

        So it can be up to a record more than was asked for. ``flags`` are ignored.
        """
        if self._ended:
            return super().recv(buflen)
        pieces: list[bytes] = []
        count = 0
        while count < buflen and len(pieces) < _RECORDS:
            try:
                octets = super().recv(_RECORD)
            except ssl.SSLWantReadError:
                if not pieces:
                    raise BlockingIOError from None
                break
            except OSError:
                if not pieces:
                    raise
                octets = b""  # the error comes again, like the end
            if not octets:
                if pieces:
                    # The end was taken out of the kernel with the octets before it: from now on
                    # epoll reports it again, as for a plain socket.
                    with contextlib.suppress(OSError):
                        super(ssl.SSLSocket, self).shutdown(socket.SHUT_RD)
                break
            pieces.append(octets)
            count += len(octets)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def send(self, data: Any, flags: int = 0) -> int:
        """Send what the kernel takes of ``data``, in whole records. ``flags`` are ignored.

        After BlockingIOError the next call must begin with the same octets, and may have more: a
        record is encrypted once. Pieces of one record make sure that nobody can tell.
        """
        if self._ended:
            raise BrokenPipeError("the end has been told already")  # and this would go out in plain
        sent = 0
        with memoryview(data) as view:
            while sent < len(view):
                try:
                    sent += super().send(view[sent : sent + _RECORD])
                except ssl.SSLWantWriteError:
                    if not sent:
                        raise BlockingIOError from None
                    break
        return sent

    def say_end(self) -> None:
        """Tell the client that nothing more comes (close_notify, RFC 8446 section 6.1), if it has
        not been told. Raises BlockingIOError if there is no room, OSError."""
        if self._ended:
            return
        try:
            self.unwrap()
            self._ended = True  # the client has said it too
        except ssl.SSLWantReadError:
            pass  # it is out; the client's own has not come
        except ssl.SSLWantWriteError:
            raise BlockingIOError from None

    def shutdown(self, how: int) -> None:
        """Close for sending or receiving. What is received afterwards is not decrypted."""
        if how != socket.SHUT_RD:
            with contextlib.suppress(OSError):
                self.say_end()
        self._ended = True
        super().shutdown(how)

    def plain(self) -> socket.socket:
        """The socket without TLS; this object is of no use any more."""
        return socket.socket(fileno=self.detach())

    def describe(self) -> dict[str, str]:
        """What an application may know of the connection, in the words of mod_ssl: variables of
        environ. SSL_CLIENT_VERIFY is SUCCESS or NONE; with FAILED there is no connection.

        Raises OSError for a certificate with a name that is no text; its issuer let that pass.
        """
        cipher = self.cipher()
        found = {
            "SSL_PROTOCOL": self.version() or "",
            "SSL_CIPHER": cipher[0] if cipher else "",
            "SSL_CLIENT_VERIFY": "NONE",
        }
        certificate = self.getpeercert(binary_form=True)
        if certificate is not None:
            try:
                fields: dict[str, Any] = self.getpeercert() or {}
            except ValueError as error:
                raise OSError(f"its certificate cannot be read: {error}") from None
            found["SSL_CLIENT_VERIFY"] = "SUCCESS"
            found["SSL_CLIENT_S_DN"] = distinguished_name(fields.get("subject", ()))
            found["SSL_CLIENT_CERT"] = ssl.DER_cert_to_PEM_cert(certificate)
        return found


def distinguished_name(names: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """A subject of ``getpeercert`` as RFC 4514 writes it, the most specific first: its UTF-8 as
    latin-1 text, as everything of environ is."""
    parts = (
        "+".join(f"{_SHORT_NAMES.get(kind, kind)}={_escaped(value)}" for kind, value in part)
        for part in reversed(names)
    )
    return ",".join(parts).encode().decode("latin-1")


def _escaped(value: str) -> str:
    """RFC 4514 section 2.4."""
    value = re.sub(r'([,+"\\<>;=]|^[ #]|(?<=.) $)', r"\\\1", value)
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\{ord(match[0]):02X}", value)
