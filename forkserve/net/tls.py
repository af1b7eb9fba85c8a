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

# Received at once: a whole record with what is around it, from who sends many octets in few. Else
# less, because a KeyUpdate takes 27 octets, and the time of half a megabyte to decrypt (40 us).
_MUCH = 5 + _RECORD + 256
_LITTLE = 4096

# Octets in a row without any for the application. One record is that, until its last octet comes.
_BARREN = 65536

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
    """The context of a server. Reads the files.

    ``cert_reqs`` is "none", "optional" or "required", ``min_version`` "1.2" or "1.3". Raises
    ForkserveError.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[min_version]
    # A client that renegotiates costs much and gains nothing (CVE-2011-1473).
    context.options |= ssl.OP_NO_RENEGOTIATION
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
        raise ForkserveError(
            f"{certfile} (`certfile`) holds no certificate in PEM: it must have "
            "-----BEGIN CERTIFICATE-----, the server's own first, then those of its issuers"
        )
    if b"PRIVATE KEY-----" not in key_text:
        raise ForkserveError(
            f"{key} holds no private key in PEM: name the file of the key with `keyfile`"
        )

    def ask() -> str:
        # There may be no terminal, and a reload could not wait for one.
        raise ForkserveError(f"the key in {key} is encrypted: decrypt it with `openssl pkey`")

    try:
        context.load_cert_chain(certfile, keyfile, ask)
    except (ssl.SSLError, ValueError) as error:
        reason = getattr(error, "reason", None)
        if reason == "KEY_VALUES_MISMATCH":
            why = (
                f"the key in {key} is not that of the first certificate in {certfile} "
                "(`certfile`): name the two that were made together, the server's certificate first"
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
            f"{path} (`{setting}`) cannot be read by the master: {error.strerror}. "
            f"It must be there, and user {os.geteuid()} be able to read it"
        ) from None


class TlsSocket(socket.socket):
    """The server's end of a TLS connection, non-blocking, for callers who expect a plain socket.

    ``recv``, ``send`` and ``shutdown`` do what theirs do, BlockingIOError included. Nothing that is
    decrypted ever waits in here, so that epoll, which sees the kernel's socket, tells the truth.

    OpenSSL gets what one recv brought, and no socket: there it would read on, as long as the client
    sends, for octets of an application. KeyUpdates bring none (RFC 8446 section 4.6.3), nor do
    hellos of a renegotiation that is refused.
    """

    __slots__ = (
        "_at_once", "_barren", "_ended", "_incoming", "_left", "_outgoing", "_owed", "_tls",
    )  # fmt: skip

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        """Take the connection over from ``sock``, which is of no use any more."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._ended = False  # nothing is encrypted or decrypted any more
        self._at_once = _LITTLE  # is received and decrypted
        self._barren = 0  # octets received since the last of the application
        self._left = b""  # what is encrypted, and the kernel has not taken
        self._owed = 0  # octets whose record is in that
        super().__init__(sock.family, sock.type, sock.proto, sock.detach())
        self.setblocking(False)

    def handshake(self) -> int:
        """Go on with the handshake, as far as that is possible without waiting.

        Returns 0 when it is complete, else what it waits for, EPOLLIN or EPOLLOUT. Raises
        ConnectionError if the client is gone, OSError with OpenSSL's ``reason`` for all else.
        """
        if not self._flush():
            return select.EPOLLOUT
        if self._tls.version() is not None:
            return 0
        try:
            octets = super().recv(_LITTLE)
        except BlockingIOError:
            return select.EPOLLIN
        if not octets:
            raise ConnectionAbortedError("the client closed in the handshake")
        self._incoming.write(octets)
        events = 0
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            events = select.EPOLLIN
        except ssl.SSLZeroReturnError as error:
            raise ConnectionAbortedError(str(error)) from None
        except ssl.SSLError:
            self._flush()  # the alert that says why
            raise
        return events if self._flush() else select.EPOLLOUT

    def recv(self, buflen: int = _RECORD, flags: int = 0) -> bytes:
        """As many whole records as it takes to have ``buflen`` octets, or as there are, but so many
        that others have their turn.

        So it can be up to two records more than was asked for. ``flags`` are ignored. Raises
        ConnectionAbortedError for a client that sends all but octets of an application.
        """
        if self._ended:
            return super().recv(buflen)
        pieces: list[bytes] = []
        try:
            while self._receive(pieces) and sum(map(len, pieces)) < buflen:
                pass
        except BlockingIOError:
            if not pieces:
                raise
        except OSError:
            if not pieces:
                raise
            pieces.append(b"")  # it comes again, like the end
        if len(pieces) == 1:
            return pieces[0]
        if not pieces[-1]:
            # It was taken out of the kernel with the octets before it: from now on epoll reports it
            # again, as for a plain socket.
            with contextlib.suppress(OSError):
                super().shutdown(socket.SHUT_RD)
        return b"".join(pieces)

    def _receive(self, pieces: list[bytes]) -> bool:
        """Receive once, and decrypt that. The last piece is b"" at the end.

        Returns whether there is probably more, and cheap to decrypt. Raises OSError;
        BlockingIOError also if there are no pieces.
        """
        if self._barren > _BARREN or len(self._left) > _BARREN:
            raise ConnectionAbortedError("the client sends much, and nothing for the application")
        incoming, read, asked = self._incoming, self._tls.read, self._at_once
        # The handshake leaves what stood behind it.
        size = incoming.pending or incoming.write(super().recv(asked))
        if not size:
            pieces.append(b"")
            return False
        count = 0
        try:
            while incoming.pending:
                octets = read(_RECORD)
                pieces.append(octets)
                if not octets:
                    break
                count += len(octets)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            pieces.append(b"")
        finally:
            if self._outgoing.pending:
                self._flush()  # an alert, or our own KeyUpdate
        self._barren = 0 if count else self._barren + size
        if not pieces:
            raise BlockingIOError
        if size < asked:
            return False
        rich = count * 4 >= size * 3
        self._at_once = _MUCH if rich else _LITTLE
        return rich and bool(pieces[-1])

    def send(self, data: Any, flags: int = 0) -> int:
        """Send what the kernel takes of ``data``, in whole records. ``flags`` are ignored.

        After BlockingIOError the next call must begin with the same octets, and may have more: a
        record is encrypted once. Pieces of one record make sure that nobody can tell.
        """
        if self._ended:
            raise BrokenPipeError("the end has been told already")  # and this would go out in plain
        with memoryview(data) as view:
            size = len(view)
            if not self._flush():
                raise BlockingIOError
            sent, self._owed = self._owed, 0
            while sent < size:
                count = self._tls.write(view[sent : sent + _RECORD])
                if not self._flush():
                    self._owed = count
                    if not sent:
                        raise BlockingIOError
                    break
                sent += count
        return sent

    def _flush(self) -> bool:
        """Send what is encrypted. Returns whether the kernel has all of it. Raises OSError."""
        octets = self._outgoing.read()
        if self._left:
            octets = self._left + octets
        elif not octets:
            return True
        try:
            sent = super().send(octets)
        except BlockingIOError:
            sent = 0
        self._left = octets[sent:]
        return not self._left

    def say_end(self) -> None:
        """Tell the client that nothing more comes (close_notify, RFC 8446 section 6.1), if it has
        not been told. Raises BlockingIOError if there is no room, OSError."""
        if self._ended:
            return
        with contextlib.suppress(ssl.SSLError):  # the client's own has not come, most often
            self._tls.unwrap()
        if not self._flush():
            raise BlockingIOError

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
        cipher = self._tls.cipher()
        found = {
            "SSL_PROTOCOL": self._tls.version() or "",
            "SSL_CIPHER": cipher[0] if cipher else "",
            "SSL_CLIENT_VERIFY": "NONE",
        }
        certificate = self._tls.getpeercert(binary_form=True)
        if certificate is not None:
            try:
                fields: dict[str, Any] = self._tls.getpeercert() or {}
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
