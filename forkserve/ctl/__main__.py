"""``python -m forkserve.ctl`` is ``forkservectl``."""

from forkserve.ctl.commands import main

main()
