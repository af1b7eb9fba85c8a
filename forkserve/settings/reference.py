"""The settings as documents: the configuration file, and the table of the README.

``python -m forkserve.settings.reference toml`` and ``... rst`` print them; a test compares.
"""

import json
import re
import textwrap
from typing import Any

from forkserve.settings.declaration import Declaration
from forkserve.settings.declared import Settings, declarations
from forkserve.settings.kinds import FLAG
from forkserve.settings.sources import PREFIX, Loaded


def toml_value(declaration: Declaration, value: Any) -> str:
    """``value`` as it would stand in a configuration file."""
    show = declaration.kind.show
    if declaration.kind.many:
        return "[" + ", ".join(_quoted(show(item)) for item in value) + "]"
    text = show(value)
    if declaration.kind is FLAG:
        return text
    return text if re.fullmatch("0|[1-9][0-9]*", text) else _quoted(text)


def _quoted(text: str) -> str:
    """A string of TOML: one of JSON, if that does not write a character as two halves."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def print_config(loaded: Loaded) -> str:
    """The settings in force, as a configuration file that says where each value came from."""
    lines = []
    for name, (declaration, _) in declarations().items():
        value = toml_value(declaration, getattr(loaded.settings, name))
        lines.append(f"{name} = {value}  # {loaded.origins[name]}")
    return "\n".join(lines)


def settings_with_origins(settings: Settings) -> dict[str, dict[str, object]]:
    """The same for programs: each as a person would write it, a list of such texts for a list."""
    values: dict[str, dict[str, object]] = {}
    for name, (declaration, _) in declarations().items():
        value, kind = getattr(settings, name), declaration.kind
        shown = [kind.show(item) for item in value] if kind.many else kind.show(value)
        values[name] = {"value": shown, "origin": settings.origins[name]}
    return values


def toml_file() -> str:
    """A configuration file with every setting, explained, at its default and commented out."""
    lines = [
        "# The configuration of forkserve:  forkserve -c forkserve.toml",
        "#",
        "# Every setting is here with its default; remove the # in front of those that you change.",
        f"# The environment ({PREFIX}WORKERS=4) wins over this file, the command line over both.",
        '# Sizes: 8190, 64K, 1M, 2G. Times: 30 (seconds), 500ms, 5m, 1h. "none" is no limit.',
        "# After a change: forkserve --check-config -c forkserve.toml, then SIGHUP to the master.",
    ]
    group = ""
    for name, (declaration, default) in declarations().items():
        if declaration.group != group:
            group = declaration.group
            lines += ["", "", f"# ---- {group} ".ljust(80, "-")]
        lines.append("")
        for paragraph in (declaration.help, declaration.advice):
            lines += textwrap.wrap(
                paragraph, 98, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
            )
        value = '"module:callable"' if name == "app" else toml_value(declaration, default)
        lines.append(f"#{name} = {value}")
    return "\n".join(lines) + "\n"


def rst_table() -> str:
    """The settings as a list-table for the README."""
    lines = [".. list-table::", "   :header-rows: 1", "   :widths: 22 14 64", ""]
    lines += ["   * - Setting", "     - Default", "     - What it does"]
    group = ""
    for name, (declaration, default) in declarations().items():
        if declaration.group != group:
            group = declaration.group
            lines += [f"   * - **{group}**", "     -", "     -"]
        options = ", ".join(f"``{option}``" for option in declaration.options)
        value = toml_value(declaration, default) if name != "app" else ""
        lines.append(f"   * - ``{name}``" + (f" {options}" if options else ""))
        lines.append(f"     - ``{value}``" if value else "     -")
        lines.append(f"     - {_rst(f'{declaration.help} {declaration.advice}')}")
    return "\n".join(lines) + "\n"


def _rst(text: str) -> str:
    """With literals, and without the emphasis that an asterisk would begin."""
    return re.sub("`([^`]*)`|[*]", lambda found: f"``{found[1]}``" if found[1] else r"\*", text)


if __name__ == "__main__":
    import sys

    print({"toml": toml_file, "rst": rst_table}[sys.argv[1]](), end="")  # noqa: T201
