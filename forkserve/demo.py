"""The built-in demonstration: ``forkserve forkserve.demo:application``.

One page that shows a person that it works: which worker answered, how many requests this
connection has carried, a response that is streamed, and an upload.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from html import escape
from typing import Any

_STEPS = 20
_STEP = 0.1  # seconds

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>forkserve</title>
<link rel="icon" href="data:,">
<style>
  :root {{ color-scheme: light dark; --line: #8884; --bar: #2a7de1; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto;
         padding: 0 1rem; }}
  h1 {{ font-weight: 600; margin: 0; }}
  section {{ border: 1px solid var(--line); border-radius: 10px; padding: 1rem 1.25rem;
            margin: 1rem 0; }}
  h2 {{ font-size: 1rem; margin: 0 0 .5rem; }}
  button, input {{ font: inherit; }}
  button {{ padding: .3rem .9rem; border-radius: 6px; border: 1px solid var(--line);
           cursor: pointer; }}
  output {{ font-family: ui-monospace, monospace; display: block; margin-top: .6rem;
           overflow-wrap: anywhere; min-height: 1.5em; }}
  .bar {{ height: 6px; border-radius: 3px; background: var(--bar); width: 0; margin-top: .8rem; }}
  p {{ margin: .25rem 0; }}
</style>
<h1>It works.</h1>
<p>This page comes from forkserve.</p>
<section>
  <h2>Who answers</h2>
  <p>A worker process, and on a connection that stays open.</p>
  <button id="ask">Ask again</button>
  <output id="who">{who}</output>
</section>
<section>
  <h2>A streamed response</h2>
  <p>{steps} blocks, each sent the moment it is ready.</p>
  <button id="count">Count</button>
  <div class="bar" id="bar"></div>
  <output id="counted"></output>
</section>
<section>
  <h2>An upload</h2>
  <p>The worker reads it all, and reports its length and SHA-256.</p>
  <input type="file" id="file">
  <output id="uploaded"></output>
</section>
<script>
const at = id => document.getElementById(id);
at("ask").onclick = async () => {{
  const who = await (await fetch("who")).json();
  at("who").textContent = who.text;
}};
at("count").onclick = async () => {{
  const reader = (await fetch("count")).body.getReader();
  const text = new TextDecoder();
  at("counted").textContent = "";
  for (let block; !(block = await reader.read()).done;) {{
    at("counted").textContent += text.decode(block.value);
    const count = at("counted").textContent.trim().split(" ").length;
    at("bar").style.width = 100 * count / {steps} + "%";
  }}
}};
at("file").onchange = async event => {{
  at("uploaded").textContent = "uploading ...";
  const answer = await fetch("upload", {{method: "POST", body: event.target.files[0]}});
  at("uploaded").textContent = (await answer.json()).text;
}};
</script>
"""


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The WSGI application."""
    path, method = environ["PATH_INFO"], environ["REQUEST_METHOD"]
    if path == "/upload" and method == "POST":
        return _json(start_response, _upload(environ["wsgi.input"]))
    if method not in ("GET", "HEAD"):
        return _send(start_response, "405 Method Not Allowed", "text/plain", b"GET it.\n")
    if path == "/who":
        return _json(start_response, _who(environ))
    if path == "/count":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Cache-Control", "no-store")])
        return _count()
    if path == "/":
        page = _PAGE.format(who=escape(_who(environ)["text"]), steps=_STEPS)
        return _send(start_response, "200 OK", "text/html; charset=utf-8", page.encode())
    return _send(start_response, "404 Not Found", "text/plain", b"There is nothing here.\n")


def _who(environ: dict[str, Any]) -> dict[str, Any]:
    slot = environ.get("forkserve.slot", 0)
    generation = environ.get("forkserve.generation", 1)
    requests = environ.get("forkserve.requests", 1)
    text = (
        f"Worker {slot} of generation {generation}, process {os.getpid()}. "
        f"Request {requests} on this connection."
    )
    return {
        "pid": os.getpid(),
        "slot": slot,
        "generation": generation,
        "requests": requests,
        "text": text,
    }


def _count() -> Iterator[bytes]:
    for number in range(1, _STEPS + 1):
        yield b"%d " % number
        time.sleep(_STEP)


def _upload(file: Any) -> dict[str, Any]:
    length, checksum = 0, hashlib.sha256()
    while block := file.read(65536):
        length += len(block)
        checksum.update(block)
    digest = checksum.hexdigest()
    return {"length": length, "sha256": digest, "text": f"{length} bytes, SHA-256 {digest}"}


def _json(start_response: Callable[..., Any], document: dict[str, Any]) -> list[bytes]:
    return _send(start_response, "200 OK", "application/json", json.dumps(document).encode())


def _send(
    start_response: Callable[..., Any], status: str, content_type: str, body: bytes
) -> list[bytes]:
    start_response(
        status,
        [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
        ],
    )
    return [body]
