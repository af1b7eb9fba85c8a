"""Where the values of the settings came from, for whoever reads a message about one of them.

A message calls a setting by its name in backquotes, wherever it is made; the origin is put in here,
at the place where the message becomes a text for the operator. Knows no setting by name.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

# Not one that was told its origin already, in another process.
_NAME = re.compile("`([a-z_]+)`(?! from | by default)")
_DEFAULT = "default"


@dataclass(frozen=True, kw_only=True)
class Origins:
    """What ``Settings`` know of themselves: name -> the words for where its value came from.

    Two settings are equal when their values are, wherever these came from.
    """

    origins: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    def named(self, name: str) -> str:
        """The setting with its origin: "`bind` from --bind", "`bind` by default"."""
        origin = self.origins.get(name, "")
        if not origin:
            return f"`{name}`"
        if origin == _DEFAULT:
            return f"`{name}` by default"
        return f"`{name}` from {'the ' if origin == 'command line' else ''}{origin}"

    def explained(self, message: str) -> str:
        """``message``, in which each setting has its origin where it is first named."""
        told = set()

        def explain(found: re.Match[str]) -> str:
            name = found[1]
            if name in told:
                return found[0]
            told.add(name)
            return self.named(name)

        return _NAME.sub(explain, message)
