"""Kernel sockets: addresses, listeners, what systemd hands down. Nothing here knows of HTTP."""
