"""The command ``forkservectl``: what operators see of a running server, and tell it."""
