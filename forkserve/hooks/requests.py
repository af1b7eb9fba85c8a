"""``req`` and ``resp`` as hooks know them. Made for each request where a hook asks for it, and only
there."""

from collections.abc import Mapping, Sequence
from typing import Any

from forkserve.http.head import Head
from forkserve.http.response import ResponseEncoder


class Request:
    """What hooks are told of a request. They may put attributes of their own on it."""

    def __init__(self, head: Head, environ: Mapping[str, Any]) -> None:
        self.method = head.method
        self.uri = head.target
        self.path = head.path  # as sent, percent-encoded
        self.query = head.query
        self.fragment = ""
        self.version = (1, head.minor)
        self.scheme: str = environ["wsgi.url_scheme"]
        self._scheme = self.scheme
        self.remote_addr: tuple[str, str] = (environ["REMOTE_ADDR"], environ["REMOTE_PORT"])
        self.body = environ["wsgi.input"]
        self._fields = environ
        self._headers: list[tuple[str, str]] | None = None
        self._known = 0

    @property
    def headers(self) -> list[tuple[str, str]]:
        """(NAME, value), as the application is given them. What is appended reaches it."""
        if self._headers is None:
            names = ((name, _field_name(name)) for name in self._fields)
            self._headers = [(field, self._fields[name]) for name, field in names if field]
            self._known = len(self._headers)
        return self._headers

    @property
    def trailers(self) -> Sequence[tuple[str, str]]:
        return ()

    def changed(self) -> dict[str, str]:
        """Variables of the application's environ that a hook has set: the scheme, and the fields
        that it has appended."""
        variables: dict[str, str] = {}
        if self.scheme != self._scheme:
            variables["wsgi.url_scheme"] = self.scheme
            variables["HTTPS"] = "on" if self.scheme == "https" else "off"
        for name, value in (self._headers or [])[self._known :]:
            variables[f"HTTP_{name.upper().replace('-', '_')}"] = value
        return variables


def _field_name(variable: str) -> str:
    if variable.startswith("HTTP_"):
        return variable[5:].replace("_", "-")
    return variable.replace("_", "-") if variable in ("CONTENT_TYPE", "CONTENT_LENGTH") else ""


class Response:
    """What hooks are told of a response: what is out, or left to the kernel."""

    def __init__(self, encoder: ResponseEncoder) -> None:
        self.status_code = encoder.code
        self.status = encoder.status
        self.headers = list(encoder.headers)
        self.sent = encoder.body_octets
        lengths = (value for name, value in self.headers if name.lower() == "content-length")
        self.response_length = next((int(value) for value in lengths if value.isdigit()), None)
        self.should_close = lambda: not encoder.persist
