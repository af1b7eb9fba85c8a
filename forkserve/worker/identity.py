"""The id of a request: that of a trusted proxy, or one of our own making.

One that is made is a prefix that no other worker has, and a count: a random one would cost a system
call, and as much as a tenth of a small request.
"""

import itertools
import os
import re
from collections.abc import Callable, Mapping

FIELD = "HTTP_X_REQUEST_ID"

# What a proxy sends is kept as it is, if it can stand in a log, in a field and in a shell: UUIDs,
# those of nginx, Heroku, AWS (Root=1-...), base64, and what people make up.
_kept = re.compile(r"[A-Za-z0-9+/=_.:;@~-]{1,200}").fullmatch


class RequestIds:
    """Made in the process that uses it. For any thread (a count is atomic)."""

    def __init__(self, trusts: Callable[[str], bool] | None) -> None:
        """``trusts``: whether an address is that of a proxy whose ids are kept; None: of nobody."""
        self._trusts = trusts
        form = f"{os.urandom(8).hex()}-%x"
        # As a map no frame of Python is run for it.
        self.make: Callable[[], str] = map(form.__mod__, itertools.count(1)).__next__

    def of(self, fields: Mapping[str, str], peer: str) -> str:
        """The id of a request of ``peer``, which may have one in its ``fields``."""
        sent = fields.get(FIELD)
        if sent is not None and self._trusts is not None and self._trusts(peer) and _kept(sent):
            return sent
        return self.make()
