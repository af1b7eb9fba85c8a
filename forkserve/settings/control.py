"""The setting of the control socket, by which `forkservectl` reaches the master."""

from dataclasses import dataclass

from forkserve.settings import kinds
from forkserve.settings.declaration import declare as _declare

AUTO = "auto"


@dataclass(frozen=True, kw_only=True)
class ControlSettings:
    """What an operator's commands need."""

    # fmt: off
    control_socket: str | None = _declare(
        "Control", AUTO, kinds.text("auto|none|PATH", none=True),
        "Unix socket for forkservectl, open to root and the master's own user. auto: beside the "
        "pid file; else forkserve.ctl in $RUNTIME_DIRECTORY, in $XDG_RUNTIME_DIR, or in "
        "/run/forkserve, the first of these that is there. none: no control socket.",
        "Name one where several servers share such a directory: the first that starts has it.",
        "--control-socket",
    )
    # fmt: on
