"""PEP 3333 on any source of bytes: environ, wsgi.input, and the call of the application."""
