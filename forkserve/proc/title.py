"""What ps and top show of a process."""

from setproctitle import setproctitle


def set_title(role: str, name: str) -> None:
    """Show ``forkserve: role [name]``."""
    setproctitle(f"forkserve: {role} [{name}]")
