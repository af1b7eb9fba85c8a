"""What is measured: for each scenario the load as a wrk script, and the answer that is right."""

import http.client
import zlib
from dataclasses import dataclass

_BODY = bytes(range(256)) * 256  # 64 KiB
_SUM = b"65536 %08x\n" % zlib.crc32(_BODY)

_BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/webp,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Referer": "https://example.org/some/page",
    "Connection": "keep-alive",
    "Cookie": "sessionid=abcdef0123456789; csrftoken=0123456789abcdef",
    "Upgrade-Insecure-Requests": "1",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "same-origin",
}


@dataclass(frozen=True)
class Scenario:
    """``path`` is asked for, ``script`` is Lua for wrk, ``answer`` is the whole body expected."""

    name: str
    about: str
    path: str
    answer: bytes
    script: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    upload: str = ""  # "length" or "chunked"

    def check(self, port: int) -> str | None:
        """Ask once, and say what is wrong with the answer; None if it is right."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            headers = dict(self.headers)
            if self.upload == "length":
                connection.request("POST", f"{self.path}?sum", _BODY, headers)
            elif self.upload == "chunked":
                pieces = iter([_BODY[start : start + 8192] for start in range(0, 65536, 8192)])
                connection.request("POST", f"{self.path}?sum", pieces, headers, encode_chunked=True)
            else:
                connection.request("GET", self.path, headers=headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}"
        finally:
            connection.close()
        if response.status != 200:
            return f"status {response.status}"
        return None if body == self.answer else f"a wrong body of {len(body)} octets"


def _lua(headers: dict[str, str]) -> str:
    return "\n".join(f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items())


_VARIED = """
local count = 0
local headers = {}
HEADERS
request = function()
  count = count + 1
  headers["Referer"] = "https://example.org/some/page/" .. count
  headers["Cookie"] = "sessionid=abcdef0123456789" .. count .. "; csrftoken=0123456789abcdef"
  headers["X-Request-Id"] = "4bf92f3577b34da6a3ce929d" .. count
  return wrk.format("GET", "/item/" .. count .. "?q=" .. count, headers)
end
""".replace(
    "HEADERS", "\n".join(f'headers["{key}"] = "{value}"' for key, value in _BROWSER.items())
)

_BYTES = """
local piece = {}
for octet = 0, 255 do piece[octet + 1] = string.char(octet) end
local body = string.rep(table.concat(piece), 256)
"""

_UPLOAD = (
    _BYTES
    + """
wrk.method = "POST"
wrk.body = body
"""
)

_CHUNKED = (
    _BYTES
    + """
local chunks = {}
for start = 1, 65536, 8192 do
  table.insert(chunks, "2000\\r\\n" .. string.sub(body, start, start + 8191) .. "\\r\\n")
end
local message = "POST /upload HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n"
  .. "Transfer-Encoding: chunked\\r\\n\\r\\n" .. table.concat(chunks) .. "0\\r\\n\\r\\n"
request = function() return message end
"""
)

_HELLO = b"Hello, world!\n"

SCENARIOS = (
    Scenario("hello", "14 octets", "/hello", _HELLO),
    Scenario(
        "browser", "14 octets for a browser's 12 fields", "/hello", _HELLO,
        _lua(_BROWSER), tuple(_BROWSER.items()),
    ),
    Scenario(
        "varied", "another query, cookie, request id and referer each time", "/item/1?q=1", _HELLO,
        _VARIED, tuple(_BROWSER.items()),
    ),
    Scenario("stream10", "a generator of 10 blocks of 1 KiB", "/stream10", b"x" * 10240),
    Scenario("bytes100k", "100,000 octets", "/bytes100k", b"y" * 100_000),
    Scenario("upload64k", "64 KiB with Content-Length", "/upload", _SUM, _UPLOAD, (), "length"),
    Scenario("chunked64k", "64 KiB in 8 chunks", "/upload", _SUM, _CHUNKED, (), "chunked"),
    Scenario("flask", "a Flask view with JSON", "/flask?name=you",
             b'{"greeting":"Hello","name":"you"}\n'),
)  # fmt: skip
