"""The command ``forkserve``, and ``python -m forkserve``.

Imports the rest when it has seen to Ctrl-C, which else would be a traceback of what Python reads.
"""

import signal
from typing import NoReturn


def main() -> NoReturn:
    """The entry point of the console script."""
    # Not if it is ignored: `nohup` and shells that start something in the background do that.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from forkserve.cli import main

    main()


if __name__ == "__main__":
    main()
