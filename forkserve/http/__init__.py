"""HTTP/1.1 as pure functions and small automata: bytes in, values out (RFC 9110, RFC 9112).

Nothing here knows of sockets, files, clocks or logs. What cannot be accepted is raised as
``ProtocolError``; nothing else is ever raised for what a client sends.
"""
