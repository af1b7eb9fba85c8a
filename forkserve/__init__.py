"""A pre-fork WSGI server: persistent connections in sync workers, reloads that lose nothing."""

__version__ = "0.1.0"
