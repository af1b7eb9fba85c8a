"""``environ``: what PEP 3333 and RFC 3875 say of a request.

What is the same for all requests of a listener is made once; a request copies it and adds its own:
one ``dict.copy``, one ``dict.update``, a handful of items.
"""

from io import TextIOBase
from typing import BinaryIO
from urllib.parse import unquote_to_bytes

from forkserve.http.forwarded import Forwarded
from forkserve.http.head import Head
from forkserve.wsgi.call import Environ
from forkserve.wsgi.chunked import NO_CHUNKS
from forkserve.wsgi.file_wrapper import FileWrapper

_OF_EACH = (
    "REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "SERVER_PROTOCOL", "RAW_URI", "REQUEST_URI",
    "REMOTE_ADDR", "REMOTE_PORT", "wsgi.input", "wsgi.early_hints", "forkserve.requests",
    "forkserve.queue_seconds",
)  # fmt: skip
"""What each request sets. It finds the places made, so that the copy need not grow."""


def listener_environ(
    errors: TextIOBase,
    name: tuple[str, str],
    *,
    software: str,
    slot: int,
    generation: int,
    threads: int = 1,
    tls: bool = False,
) -> Environ:
    """The part that is the same for every request of a listener.

    ``name`` is its (host, port) as text, of a unix socket (path, "").
    """
    host, port = name
    secured = {"HTTPS": "on"} if tls else {}
    return {
        **secured,
        "SCRIPT_NAME": "",
        "SERVER_SOFTWARE": software,
        # RFC 3875 wants a host and a port, and they may not be empty. A unix socket has neither;
        # the proxy in front of it says in Host what the client asked for.
        "SERVER_NAME": host if port else "localhost",
        "SERVER_PORT": port or ("443" if tls else "80"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if tls else "http",
        "wsgi.errors": errors,
        "wsgi.multithread": threads > 1,
        # True even with one worker: in a reload the old and the new generation run side by side.
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
        # Of a request without a body; one that has a body gets its own.
        "forkserve.chunked_read": NO_CHUNKS.chunked_read,
        "forkserve.chunked_read_nb": NO_CHUNKS.chunked_read_nb,
        "forkserve.slot": slot,
        "forkserve.generation": generation,
        **dict.fromkeys(_OF_EACH),
    }


def request_environ(
    listener: Environ, head: Head, body: BinaryIO, remote: tuple[str, str], served: int
) -> Environ:
    """The whole environ of the request ``head``.

    ``remote`` is the client's (address, port) as text, ("", "") on a unix socket; ``served`` counts
    the requests of this connection, this one included.
    """
    environ = listener.copy()
    environ.update(head.fields)
    path = head.path
    environ["REQUEST_METHOD"] = head.method
    # PEP 3333: octets as latin-1 text. Decoded once, and never normalised: "..", "//" and "%00"
    # are the application's to judge.
    environ["PATH_INFO"] = unquote_to_bytes(path).decode("latin-1") if "%" in path else path
    if path == "*":
        environ["PATH_INFO"] = ""  # OPTIONS *: about the server; a path begins with a slash
    environ["QUERY_STRING"] = head.query
    environ["SERVER_PROTOCOL"] = "HTTP/1.1" if head.minor else "HTTP/1.0"
    environ["RAW_URI"] = environ["REQUEST_URI"] = head.target
    environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = remote
    environ["wsgi.input"] = body
    environ["forkserve.requests"] = served
    return environ


def apply_forwarded(environ: Environ, said: Forwarded) -> None:
    """Let ``environ`` be what it would be if the client had come without a proxy."""
    for name in said.drop:
        environ.pop(name, None)
    if said.address:
        # Without a port of the client: the one that is there is the proxy's.
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = said.address, said.port
    if said.scheme:
        environ["wsgi.url_scheme"] = said.scheme
        environ.pop("HTTPS", None)
        if said.scheme == "https":
            environ["HTTPS"] = "on"
    if said.host:
        environ["HTTP_HOST"], environ["SERVER_NAME"] = said.host, said.server_name
    if said.host or said.server_port:
        usual = "443" if environ["wsgi.url_scheme"] == "https" else "80"
        environ["SERVER_PORT"] = said.server_port or usual
