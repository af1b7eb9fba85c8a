"""The time of day: for lines that people read, and to compare with what a proxy says of its own.

It can be set at any moment, so nothing waits for it, and no deadline is made of it.
"""

from datetime import UTC, datetime


def now() -> float:
    """Seconds since 1970."""
    return datetime.now(UTC).timestamp()


def rfc3339(seconds: float | None = None, *, digits: int = 3) -> str:
    """2026-11-20T07:25:06.123Z: of ``seconds`` since 1970, or of now; 3 or 6 ``digits``."""
    when = datetime.now(UTC) if seconds is None else datetime.fromtimestamp(seconds, UTC)
    stamp = when.isoformat(timespec="milliseconds" if digits == 3 else "microseconds")
    return stamp.removesuffix("+00:00") + "Z"
