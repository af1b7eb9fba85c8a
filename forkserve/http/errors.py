"""The two ways in which a message can be wrong: the client's, and the application's."""


class ProtocolError(Exception):
    """The request breaks a rule of HTTP/1.1, or a limit.

    ``status`` is what the client is owed: 400, 413, 414, 417, 421, 431, 501 or 505 by the rules of
    this package; 408, 503 or 507 for a request that a worker cannot wait for or keep. ``detail``
    says in a few words what was wrong; it holds no octet of the request, so it is safe in a
    response and in a log. After it, nothing more of the connection may be parsed.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}"


class InvalidResponse(Exception):
    """The application's status, header or block cannot be sent: a 500, and a line in the log."""
