"""How a setting is declared: a field of a dataclass, whose metadata say the rest."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from forkserve.settings.kinds import Kind


@dataclass(frozen=True, slots=True)
class Declaration:
    """What is known of a setting besides its name, its type and its default.

    ``help`` says what it does; ``advice`` says when to leave it alone, or what it costs.
    ``options`` are those of the command line, none for the application, which is an argument there.
    """

    group: str
    kind: Kind
    help: str
    advice: str
    options: tuple[str, ...]


def declare(
    group: str,
    default: Any,
    kind: Kind,
    help: str,  # noqa: A002 - the word of argparse and click for it
    advice: str,
    *options: str,
) -> Any:
    """The field of a setting with these words."""
    declaration = Declaration(group, kind, help, advice, options)
    return dataclasses.field(default=default, metadata={"declaration": declaration})
