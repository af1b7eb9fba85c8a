"""A response, read as it comes. Small, fast, and no stricter than its purpose asks for.

How the server frames its responses is proved elsewhere; here each body is compared with the one
that is right.
"""


class Malformed(Exception):
    """This is no response."""


class Answer:
    """``feed`` octets until it says that the response is whole.

    ``status``, ``body``      of the response
    ``closes``                it says ``Connection: close``
    ``ends_with_connection``  neither its length nor chunks tell its end
    ``surplus``               octets behind it, which nobody asked for
    """

    __slots__ = ("_length", "_parsed", "_rest", "body", "closes", "ends_with_connection", "status")

    def __init__(self) -> None:
        self.status = 0
        self.body = b""
        self.closes = False
        self.ends_with_connection = False
        self._rest = b""
        self._parsed = False
        self._length: int | None = None

    @property
    def surplus(self) -> bytes:
        return self._rest

    def feed(self, octets: bytes) -> bool:
        """True when the response is whole. Raises Malformed."""
        self._rest += octets
        if not self._parsed:
            head, end, rest = self._rest.partition(b"\r\n\r\n")
            if not end:
                return False
            self._rest = rest
            self._parse(head)
        if self._length is not None:
            if len(self._rest) < self._length:
                return False
            self.body, self._rest = self._rest[: self._length], self._rest[self._length :]
            return True
        if self.ends_with_connection:
            self.body, self._rest = self.body + self._rest, b""
            return False
        return self._take_chunks()

    def _parse(self, head: bytes) -> None:
        self._parsed = True
        if head[:9] != b"HTTP/1.1 ":
            raise Malformed(head)
        self.status = int(head[9:12])
        fields = head.lower()
        self.closes = b"\r\nconnection: close" in fields
        at = fields.find(b"\r\ncontent-length: ")
        if at >= 0:
            self._length = int(fields[at + 18 :].partition(b"\r\n")[0])
        elif b"\r\ntransfer-encoding: chunked" not in fields:
            self.ends_with_connection = True

    def _take_chunks(self) -> bool:
        while True:
            line, end, rest = self._rest.partition(b"\r\n")
            if not end:
                return False
            try:
                size = int(line, 16)
            except ValueError:
                raise Malformed(line) from None
            if len(rest) < size + 2:
                return False
            if rest[size : size + 2] != b"\r\n":
                raise Malformed(rest[: size + 2])
            self.body += rest[:size]
            self._rest = rest[size + 2 :]
            if size == 0:
                return True
