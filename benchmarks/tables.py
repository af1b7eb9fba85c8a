"""Tables of reStructuredText."""

from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A simple table. No first cell of a row may be empty."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    bar = " ".join("=" * width for width in widths)
    lines = [
        " ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
    return "\n".join([bar, lines[0], bar, *lines[1:], bar])
