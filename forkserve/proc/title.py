"""What ps and top show of a process."""

from setproctitle import setproctitle


def set_title(role: str, name: str) -> None:
    """Show ``forkserve: role [name]``."""
    # A name from a command line in another encoding may hold what UTF-8 cannot.
    setproctitle(f"forkserve: {role} [{name}]".encode("utf-8", "replace").decode())
