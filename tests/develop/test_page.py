"""The page, and who gets it."""

import re
from html.parser import HTMLParser
from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from forkserve.develop.application import WithNotices
from forkserve.develop.board import Board
from forkserve.develop.page import page

HOSTILE = "x: </title></pre><script>alert(1)</script> & \"quoted\" 'too' \N{SNOWMAN}\x1b[31m\ud800"


def app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"old"]


def ask(application: Any, **environ: str) -> tuple[str, dict[str, str], bytes]:
    """Status, header and body, checked against PEP 3333."""
    answer: list[Any] = []
    environ = {"QUERY_STRING": "", **environ}
    setup_testing_defaults(environ)
    iterable = validator(application)(
        environ, lambda *given: answer.extend(given) or (lambda _: None)
    )
    body = b"".join(iterable)
    iterable.close()
    return answer[0], dict(answer[1]), body


BROWSER = {"HTTP_ACCEPT": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.mark.parametrize(
    ("environ", "gets_page"),
    [
        ({}, False),
        ({"HTTP_ACCEPT": "*/*"}, False),
        (BROWSER, True),
        ({**BROWSER, "HTTP_SEC_FETCH_DEST": "document"}, True),
        ({**BROWSER, "HTTP_SEC_FETCH_DEST": "iframe"}, False),
        ({**BROWSER, "HTTP_SEC_FETCH_DEST": "empty"}, False),
        ({**BROWSER, "REQUEST_METHOD": "POST"}, False),
        ({**BROWSER, "REQUEST_METHOD": "HEAD"}, False),
        ({**BROWSER, "HTTP_COOKIE": "forkserve_notice=1"}, False),
        ({**BROWSER, "HTTP_COOKIE": "a=b;forkserve_notice=1; c=d"}, False),
        ({**BROWSER, "HTTP_COOKIE": "forkserve_notice=11"}, True),
    ],
)
def test_who_gets_the_page(environ: dict[str, str], gets_page: bool, board: Board) -> None:
    application = WithNotices(app, board)
    assert ask(application, **environ)[2] in (b"old", b"")
    board.post("SyntaxError: no\nmore")
    status, headers, body = ask(application, **environ)
    assert status.startswith("500" if gets_page else "200")
    if gets_page:
        assert headers["Cache-Control"] == "no-store"
        assert b"SyntaxError: no" in body
    board.post("")
    assert ask(application, **environ)[0] == "200 OK"


def test_without_any_code_everybody_is_told(board: Board) -> None:
    application = WithNotices(None, board, "the first reason")
    status, headers, body = ask(application, REQUEST_METHOD="POST")
    assert (status, headers["Content-Type"]) == (
        "500 Internal Server Error",
        "text/plain; charset=utf-8",
    )
    assert b"the first reason" in body
    assert b"the first reason" in ask(application, **BROWSER)[2]
    board.post("a later reason")
    assert b"a later reason" in ask(application)[2]


def test_the_page_asks_for_news(board: Board) -> None:
    application = WithNotices(app, board)
    board.post("one")
    assert ask(application, HTTP_X_FORKSERVE_NOTICE="1")[0] == "204 No Content"
    board.post("two")
    assert ask(application, HTTP_X_FORKSERVE_NOTICE="1")[0] == "200 OK"
    board.post("")
    assert ask(application, HTTP_X_FORKSERVE_NOTICE="2")[0] == "200 OK"


class Parsed(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.urls: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.urls += [value or "" for name, value in attrs if name in ("src", "href", "action")]

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("old_code", [True, False])
def test_the_page_shows_text_only_and_needs_nothing(old_code: bool) -> None:
    octets = page(f"{HOSTILE}\n{HOSTILE}\n  > {HOSTILE}", number=7, nonce="N", old_code=old_code)
    parsed = Parsed(octets.decode())
    assert parsed.tags.count("script") == 1
    assert parsed.tags.count("title") == 1
    assert parsed.tags.count("button") == old_code
    assert parsed.urls == []
    assert parsed.words.count("<script>alert(1)</script> & \"quoted\" 'too' \N{SNOWMAN}") == 3
    assert b"http://" not in octets and b"https://" not in octets
    assert b"prefers-color-scheme: dark" in octets and b"color-scheme: light dark" in octets


def test_the_policy_fits_the_page(board: Board) -> None:
    board.post("why")
    pages = [ask(WithNotices(app, board), **BROWSER) for _ in range(2)]
    nonces = []
    for _, headers, body in pages:
        policy = headers["Content-Security-Policy"]
        nonces += set(re.findall("nonce-([^']+)'", policy))
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert body.count(f'nonce="{nonces[-1]}"'.encode()) == 2
    assert len(set(nonces)) == 2


def test_modules_are_told_once(board: Board) -> None:
    import os

    application = WithNotices(app, board)
    assert f"{__file__}\n".encode() in os.read(board.told, 1 << 20)
    ask(application)
    with pytest.raises(BlockingIOError):
        os.read(board.told, 1)
