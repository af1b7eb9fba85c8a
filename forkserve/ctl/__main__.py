"""The command ``forkservectl``, and ``python -m forkserve.ctl``.

Imports the rest when it has seen to Ctrl-C, like ``forkserve/__main__.py``.
"""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """The entry point of the console script."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from forkserve.ctl.commands import main

    main()


if __name__ == "__main__":
    main()
