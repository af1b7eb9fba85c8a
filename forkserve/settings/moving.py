"""The table of Gunicorn's settings as a document.

``python -m forkserve.settings.moving README.rst`` puts it into the README; a test compares.
"""

from forkserve.settings.gunicorn import TABLE, VERSION, Verdict

_FIRST = f""".. list-table::
   :header-rows: 1
   :widths: 40 60

   * - Gunicorn {VERSION}
"""
_HEADINGS = {
    Verdict.SUPPORTED: "Here",
    Verdict.NEEDLESS: "Accepted, with one line that says why it is not needed",
    Verdict.REFUSED: "Refused, with what to do instead",
}


def rst_table() -> str:
    """Every setting, by what becomes of it, in Gunicorn's order."""
    lines = [*_FIRST.splitlines(), "     - forkserve"]
    for verdict, heading in _HEADINGS.items():
        lines += [f"   * - **{heading}**", "     -"]
        for entry in TABLE:
            here, says = entry.here, entry.says
            if entry.verdict is not verdict:
                continue
            options = ", ".join(f"``{option}``" for option in entry.options)
            lines.append(f"   * - ``{entry.name}``" + (f" {options}" if options else ""))
            sentence = says if verdict is Verdict.SUPPORTED else f"{says[0].upper()}{says[1:]}."
            other = f"``{here}``. " if here and here != entry.name else ""
            lines.append(f"     - {other}{sentence}".replace("`", "``").replace("````", "``"))
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """A document with the table as it is now in the place of the one that it has."""
    before, begin, rest = text.partition(_FIRST)
    lines = rest.splitlines(keepends=True)
    length = next(at for at, line in enumerate(lines) if line.strip() and line[0] != " ")
    return before + (rst_table() + "\n\n" if begin else "") + "".join(lines[length:])


if __name__ == "__main__":
    import sys
    from pathlib import Path

    file = Path(sys.argv[1])
    file.write_text(with_table(file.read_text()))
