"""The clients that people use, each with what is its own: HTTP/1.0, pools, uploads of no length."""

import asyncio
import hashlib
import json
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import httpx
import pytest
import requests
import urllib3

from tests.command.harness import Server, pieces
from tests.conftest import need

Start = Callable[..., Server]
BODY = bytes(range(256)) * 8000  # above `buffer_body`
SUM = f"{len(BODY)} {hashlib.sha256(BODY).hexdigest()}"
SMALL = b"small" * 1000
SMALL_SUM = f"{len(SMALL)} {hashlib.sha256(SMALL).hexdigest()}"
SERVED = "/environ?forkserve.requests"
"""How many requests its connection has carried: more than one, if the client keeps it."""


def output(program: str, *arguments: str, stdin: bytes = b"") -> str:
    """What a program that must succeed prints."""
    result = subprocess.run(
        [need(program), *arguments], input=stdin, capture_output=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr.decode(errors="replace")
    return result.stdout.decode()


async def pieces_in_time(body: bytes) -> AsyncIterator[bytes]:
    for piece in pieces(body):
        await asyncio.sleep(0)
        yield piece


@pytest.mark.parametrize("version", ["--http1.0", "--http1.1"])
def test_curl(start: Start, version: str) -> None:
    server = start("-w", "2", "plain")
    curl = ("curl", "-sS", "-f", version)
    assert output(*curl, f"{server.url}/hello") == "hello"
    assert output(*curl, "-I", f"{server.url}/hello").startswith("HTTP/1.1 200 OK\r\n")
    assert len(output(*curl, f"{server.url}/stream?1")) == 1 << 20
    for body, answer in ((SMALL, SMALL_SUM), (BODY, SUM)):
        post = (*curl, "--data-binary", "@-")
        assert output(*post, f"{server.url}/sum", stdin=body) == answer
        assert output(*post, f"{server.url}/ignore", stdin=body) == "ignored"


def test_curl_keeps_its_connection(start: Start) -> None:
    server = start("-w", "2", "plain")
    urls = [f"{server.url}{SERVED}"] * 3
    assert output("curl", "-sS", *urls) == "123"
    # Only a client of HTTP/1.0 that asks for it is answered so.
    assert output("curl", "-sS", "--http1.0", "-H", "Connection: keep-alive", *urls) == "123"
    assert output("curl", "-sS", "--http1.0", *urls) == "111"


@pytest.mark.parametrize("body", [SMALL, BODY])
def test_curl_with_expect(start: Start, tmp_path: Path, body: bytes) -> None:
    """curl waits for the 100 (Continue), here much longer than a test may take."""
    server = start("plain")
    (tmp_path / "body").write_bytes(body)
    expect = ("-H", "Expect: 100-continue", "--expect100-timeout", "300")
    post = ("curl", "-sS", "-i", *expect, "--data-binary", f"@{tmp_path}/body")
    summed = output(*post, f"{server.url}/sum")
    assert re.findall(r"HTTP/1.1 (\d+)", summed) == ["100", "200"]
    ignored = output(*post, f"{server.url}/ignore")
    # A long body is asked for at the first read, so here it is never sent.
    assert re.findall(r"HTTP/1.1 (\d+)", ignored) == (["100"] if body is SMALL else []) + ["200"]


@pytest.mark.parametrize(("body", "answer"), [(SMALL, SMALL_SUM), (BODY, SUM), (b"", None)])
def test_curl_uploads_in_chunks(start: Start, body: bytes, answer: str | None) -> None:
    server = start("plain")
    answer = answer or f"0 {hashlib.sha256().hexdigest()}"
    upload = ("curl", "-sS", "-f", "-X", "POST", "-T", "-")  # of no known length, so in chunks
    assert output(*upload, f"{server.url}/sum", stdin=body) == answer
    assert output(*upload, f"{server.url}/ignore", stdin=body) == "ignored"


def test_curl_gets_a_range_and_resumes(start: Start, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(BODY)
    server = start("whitenoise_site", env={"FILES": str(tmp_path)})
    url, copy = f"{server.url}/files/big.bin", tmp_path / "copy"
    output("curl", "-sS", "-f", "-r", "0-99999", "-o", str(copy), url)
    assert copy.read_bytes() == BODY[:100_000]
    output("curl", "-sS", "-f", "-C", "-", "-o", str(copy), url)
    assert copy.read_bytes() == BODY


def test_curl_over_a_unix_socket(start: Start, tmp_path: Path) -> None:
    path = str(tmp_path / "server.sock")
    server = start("-b", f"unix:{path}", "plain")
    curl = ("curl", "-sS", "-f", "--unix-socket", path)
    assert output(*curl, *[f"http://localhost{SERVED}"] * 3) == "123"
    assert output(*curl, "--data-binary", "@-", "http://localhost/sum", stdin=BODY) == SUM
    server.stop()


def test_requests(start: Start) -> None:
    server = start("-w", "2", "plain")
    with requests.Session() as session:
        for count in range(1, 20):
            assert session.get(f"{server.url}{SERVED}", timeout=30).text == str(count)
        for body, answer in ((SMALL, SMALL_SUM), (BODY, SUM)):
            assert session.post(f"{server.url}/sum", data=body, timeout=30).text == answer
            assert session.post(f"{server.url}/sum", data=pieces(body), timeout=30).text == answer
        with session.get(f"{server.url}/stream?4", stream=True, timeout=30) as answer:
            assert sum(map(len, answer.iter_content(65536))) == 4 << 20
        with session.get(f"{server.url}/endless", stream=True, timeout=30) as answer:
            assert answer.raw.read(100_000) == b"x" * 100_000
        assert session.get(f"{server.url}/hello", timeout=30).text == "hello"


def test_a_pool_of_urllib3(start: Start) -> None:
    server = start("-w", "2", "plain")
    with (
        urllib3.HTTPConnectionPool(
            "127.0.0.1", server.port, timeout=30, maxsize=4, block=True
        ) as pool,
        ThreadPoolExecutor(12) as threads,
    ):

        def one(number: int) -> bool:
            if number % 3:
                return pool.request("GET", "/hello", retries=False).data == b"hello"
            answer = pool.request("POST", "/sum", body=SMALL, retries=False)
            return answer.data == SMALL_SUM.encode()

        assert all(threads.map(one, range(400)))
        assert pool.num_connections <= 4


def test_httpx(start: Start) -> None:
    server = start("-w", "2", "plain")
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        for count in range(1, 20):
            assert client.get(SERVED).text == str(count)
        for body, answer in ((SMALL, SMALL_SUM), (BODY, SUM)):
            assert client.post("/sum", content=body).text == answer
            assert client.post("/sum", content=pieces(body)).text == answer
        with client.stream("GET", "/stream?4") as response:
            assert sum(map(len, response.iter_bytes())) == 4 << 20
    with (
        httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client,
        ThreadPoolExecutor(10) as threads,
    ):
        answers = threads.map(lambda _: client.get("/hello").text, range(200))
        assert set(answers) == {"hello"}


def test_aiohttp(start: Start) -> None:
    server = start("-w", "2", "plain")

    async def one(session: aiohttp.ClientSession, number: int) -> bool:
        if number % 3:
            async with session.get("/hello") as answer:
                return await answer.read() == b"hello"
        async with session.post(
            "/sum", data=pieces_in_time(SMALL), expect100=number % 2 == 0
        ) as answer:
            return await answer.text() == SMALL_SUM

    async def many() -> list[bool]:
        connector = aiohttp.TCPConnector(limit=10)
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(
            server.url, connector=connector, timeout=timeout
        ) as session:
            results = await asyncio.gather(*(one(session, number) for number in range(300)))
            async with session.post("/sum", data=pieces_in_time(BODY)) as answer:
                results.append(await answer.text() == SUM)
            async with session.get("/stream?4") as answer:
                results.append(len(await answer.read()) == 4 << 20)
        return results

    assert asyncio.run(many()) == [True] * 302


NODE = """
const [url, served] = process.argv.slice(-2);
const small = "small".repeat(1000);
async function lane(seen) {
  for (let count = 0; count < 20; count++) {
    seen.requests = Math.max(seen.requests, Number(await (await fetch(url + served)).text()));
    const answer = await fetch(url + "/sum", {method: "POST", body: small});
    seen.sums[await answer.text()] = true;
    const stream = new Blob([small]).stream();
    const chunked = await fetch(url + "/sum", {method: "POST", body: stream, duplex: "half"});
    seen.sums[await chunked.text()] = true;
  }
}
(async () => {
  const seen = {requests: 0, sums: {}};
  await Promise.all(Array.from({length: 5}, () => lane(seen)));
  seen.streamed = (await (await fetch(url + "/stream?4")).arrayBuffer()).byteLength;
  console.log(JSON.stringify(seen));
})();
"""


def test_fetch_of_node(start: Start) -> None:
    server = start("-w", "2", "plain")
    seen = json.loads(output("node", "-e", NODE, server.url, SERVED))
    assert seen["sums"] == {SMALL_SUM: True}
    assert seen["streamed"] == 4 << 20
    assert seen["requests"] > 20, "its connections were not kept"


def test_apachebench(start: Start) -> None:
    """With -k it asks HTTP/1.0 for a persistent connection."""
    server = start("-w", "2", "plain")
    for arguments, kept in (("-k",), 2000), ((), 0):
        said = output("ab", "-q", *arguments, "-n", "2000", "-c", "20", f"{server.url}/hello")
        figures = dict(re.findall(r"^([A-Z][\w -]+): +(\d+)", said, re.MULTILINE))
        assert figures["Complete requests"] == "2000", said
        assert figures["Failed requests"] == "0", said
        assert figures.get("Keep-Alive requests", "0") == str(kept), said
        assert "Non-2xx" not in said and "Write errors" not in said, said


def test_apachebench_posts(start: Start, tmp_path: Path) -> None:
    server = start("-w", "2", "plain")
    (tmp_path / "body").write_bytes(SMALL)
    post = ("ab", "-q", "-k", "-n", "1000", "-c", "10", "-p", f"{tmp_path}/body")
    for route in ("sum", "ignore"):
        said = output(*post, f"{server.url}/{route}")
        assert re.search(r"^Keep-Alive requests: +1000$", said, re.MULTILINE), said
        assert re.search(r"^Failed requests: +0$", said, re.MULTILINE), said


def test_wrk(start: Start) -> None:
    server = start("-w", "2", "plain")
    said = output("wrk", "-t", "1", "-c", "30", "-d", "1s", f"{server.url}/hello")
    assert re.search(r"^ +[1-9]\d* requests in ", said, re.MULTILINE), said
    assert "Socket errors" not in said and "Non-2xx" not in said, said


@pytest.mark.parametrize("path", ["/hello", "/stream?1"])
def test_h2load(start: Start, path: str) -> None:
    """Each connection pipelines, with HTTP/1.1."""
    server = start("-w", "2", "plain")
    count = 2000 if path == "/hello" else 100
    said = output("h2load", "--h1", "-n", str(count), "-c", "20", "-m", "10", f"{server.url}{path}")
    assert f"{count} done, {count} succeeded, 0 failed, 0 errored, 0 timeout" in said, said
    assert f"status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx" in said, said
