"""The page that a browser gets while the newest code does not serve. It needs nothing from
elsewhere, and shows what it is given as text only."""

from html import escape

_STYLE = """
:root { color-scheme: light dark; --back: #fbfbfa; --text: #1c1c1a; --faint: #6b6b66;
  --red: #b3261e; --box: #f1f0ec; --mark: #fbdcd8; --line: #d9d7d0 }
@media (prefers-color-scheme: dark) { :root { --back: #161615; --text: #ecebe7; --faint: #a3a29b;
  --red: #ff8a80; --box: #20201e; --mark: #50231f; --line: #3a3935 } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--text);
  font: 16px/1.5 system-ui, sans-serif }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem }
h1 { font-size: 1rem; font-weight: 600; color: var(--red); margin: 0 0 .5rem }
h2 { font-size: 1.35rem; line-height: 1.35; margin: 0 0 1.25rem; overflow-wrap: anywhere }
pre { background: var(--box); border: 1px solid var(--line); border-radius: 6px;
  margin: 0 0 1.25rem; padding: .9rem 0; overflow-x: auto; tab-size: 4;
  font: 14px/1.55 ui-monospace, monospace }
pre span { display: block; padding: 0 1rem; min-width: max-content }
pre .mark { background: var(--mark) }
p { margin: 0 0 1rem } .faint { color: var(--faint) }
button { font: inherit; color: inherit; background: none; border: 1px solid var(--line);
  border-radius: 6px; padding: .4rem .9rem; cursor: pointer }
button:hover { background: var(--box) }
"""

# Asks the server, not the application, whether there is news, and only while somebody looks.
_SCRIPT = """
const number = document.documentElement.dataset.notice;
async function ask() {
  if (!document.hidden) try {
    const answer = await fetch(location.href,
      { headers: { "X-Forkserve-Notice": number }, cache: "no-store" });
    if (answer.status !== 204) return location.reload();
  } catch { /* it is being restarted, perhaps: ask again */ }
  setTimeout(ask, 400);
}
setTimeout(ask, 400);
document.querySelector("button")?.addEventListener("click", () => {
  document.cookie = "forkserve_notice=" + number + "; path=/; SameSite=Strict";
  location.reload();
});
"""

_OLD_CODE = """<p>The last good code goes on serving all others: programs, scripts, forms.</p>
<p><button type="button">Show what the old code answers</button></p>"""
_NO_CODE = "<p>No code has been loaded yet, so this is the answer to every request.</p>"


def content_security_policy(nonce: str) -> str:
    """What the page may do: nothing but its own style and script, and to ask its own server."""
    return (
        f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
    )


def page(report: str, *, number: int, nonce: str, old_code: bool) -> bytes:
    """``report``: a line that says what is wrong, and then lines about where. ``number`` is that of
    the notice; ``old_code``: there is code that serves."""
    headline, _, rest = report.partition("\n")
    parts = [
        f'<!doctype html>\n<html lang="en" data-notice="{number}">\n<head>\n<meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>The code does not load</title>\n<style nonce="{nonce}">{_STYLE}</style>\n</head>',
        "<body>\n<main>\n<h1>The code does not load</h1>",
        f"<h2>{escape(headline)}</h2>",
        _lines(rest) if rest else "",
        _OLD_CODE if old_code else _NO_CODE,
        '<p class="faint">This page reloads by itself when the repair is saved.</p>',
        f'</main>\n<script nonce="{nonce}">{_SCRIPT}</script>\n</body>\n</html>\n',
    ]
    return "\n".join(parts).encode("utf-8", "backslashreplace")


def _lines(text: str) -> str:
    """Lines as they are; the one that is pointed at is marked."""
    marked = (
        f'<span class="mark">{escape(line)}</span>'
        if line.startswith("  > ")
        else f"<span>{escape(line) or ' '}</span>"
        for line in text.splitlines()
    )
    return f"<pre>{''.join(marked)}</pre>"
