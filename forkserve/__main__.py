"""``python -m forkserve``."""

from forkserve.cli import main

if __name__ == "__main__":
    main()
