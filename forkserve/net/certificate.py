"""When a certificate is valid. Python's ``ssl`` tells it of a peer's only, and serves with any."""

import base64
import re
from datetime import UTC, datetime

_first = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----([A-Za-z0-9+/=\s]*)-----END "
).search

# Tags of DER (X.690 section 8).
_UTC_TIME = 0x17
_VERSION = 0xA0

_MINUTE = "%Y-%m-%d %H:%M UTC"


def unfit(path: str, now: datetime) -> str | None:
    """Why clients refuse the first certificate of a file: it has expired, or is not valid yet.

    ``now`` is a date of the calendar, as those of certificates are. None if it is
    valid, or cannot be read.
    """
    try:
        with open(path, "rb") as file:
            begin, end = validity(file.read())
    except (OSError, ValueError, IndexError):
        return None
    if now > end:
        return (
            f"the certificate {path} (`certfile`) expired on {end:{_MINUTE}}, and clients "
            "refuse it: install a new one and send HUP"
        )
    if now < begin:
        return (
            f"the certificate {path} (`certfile`) is valid from {begin:{_MINUTE}} on, and clients "
            "refuse it until then: install another and send HUP, or set the clock"
        )
    return None


def validity(text: bytes) -> tuple[datetime, datetime]:
    """From when until when the first certificate of ``text`` (PEM) is valid.

    RFC 5280 section 4.1. Raises ValueError or IndexError if there is none.
    """
    found = _first(text)
    if found is None:
        raise ValueError("no certificate")
    octets = base64.b64decode(found[1])
    _, at, _ = _element(octets, 0)  # Certificate
    _, at, _ = _element(octets, at)  # TBSCertificate
    # Before the validity stand the version, which can be left out, serial number, algorithm and
    # issuer.
    for _ in range(4 if octets[at] == _VERSION else 3):
        _, _, at = _element(octets, at)
    _, at, _ = _element(octets, at)
    _, _, second = _element(octets, at)
    return _time(octets, at), _time(octets, second)


def _element(octets: bytes, at: int) -> tuple[int, int, int]:
    """(tag, where its content begins, where it ends) of what stands at ``at``."""
    start, length = at + 2, octets[at + 1]
    if length & 0x80:
        start, count = start + (length & 0x7F), length & 0x7F
        length = int.from_bytes(octets[start - count : start], "big")
    return octets[at], start, start + length


def _time(octets: bytes, at: int) -> datetime:
    kind, start, end = _element(octets, at)
    text = octets[start:end].decode("ascii")
    if kind == _UTC_TIME:  # RFC 5280 section 4.1.2.5.1
        text = ("20" if text < "50" else "19") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC)
