"""A page with 40 resources of its own, and one that loads it again and again, in a browser.

``/`` is the driver: it reports what became of each load with a POST, which is printed as one line.
"""

import base64
import json
import time
import zlib

from flask_site import debugger

# A font with one glyph, a box for the letter A.
FONT = zlib.decompress(base64.b64decode(
    "eNpjYGRgYOBiaGBgZlDwD9Y3crRwvMvAwKgBFE1Izk0sYOBhmALkTwDyTdJzKtNUfhtzAPlngHyJjNTEFP0w/hlA9hog"
    "NssACrCKMX4Dsp8AsUpGbkkFUwSQxcDYASTYcvKTE4HmgfhHQPzcxIoCBhYGNiAfaCaDQl5ibirDK447QD5Iv1pBfnEJ"
    "0F1AwATSpcAAcisQZ06v7Yznt/nKwMz8AiT7XPVZEjLN+IXxC5BiZmBigACgHmaF/xZAc0CuSQHKMjKgAkawCBPQNRAZ"
    "JgZ0wMwUAQwFVqAKwgDFdHsgAFKOQIgLKEBdxgC3G+RrESDJCKZZQCqAJMR1jv//Q8j/B5Bs4oHZC/Y9UL+hoKIgiP2P"
    "B2ymHMg0Fk6gGjaw+SA2ExCyMTgx5DNUMARBbcUDAD1fPpg="
))  # fmt: skip
IMAGE = b"""<svg xmlns="http://www.w3.org/2000/svg" width="7" height="5"><!--%s--></svg>"""

SCRIPTS, IMAGES, FONTS, SHEETS = range(15), range(15), range(5), range(5)
SLOW = ("script3", "image4", "image11", "font2", "sheet1")

DRIVER = """<!doctype html><title>driver</title><body><script>
const query = new URLSearchParams(location.search);

function once(make) {
  return new Promise((resolve) => {
    const frame = document.createElement("iframe");
    const stuck = setTimeout(() => resolve("stuck"), 15000);
    frame.onload = async () => {
      let seen;
      try { seen = await make.check(frame.contentWindow); } catch (error) { seen = String(error); }
      clearTimeout(stuck);
      frame.remove();
      resolve(seen);
    };
    frame.src = make.url;
    document.body.append(frame);
  });
}

const page = (number) => ({
  url: "/page?" + number,
  check: async (frame) => {
    await frame.document.fonts.ready;
    return [
      frame.loaded,
      [...frame.document.images].filter((image) => image.naturalWidth === 7).length,
      [...frame.document.fonts].filter((font) => font.status === "loaded").length,
      [...frame.document.styleSheets].filter((sheet) => sheet.cssRules.length === 2).length,
    ].join(" ");
  },
});

const debugged = {
  url: "/debugger/debugged",
  check: async (frame) => {
    const names = [];
    for (const tag of frame.document.querySelectorAll("link[href], script[src], img[src]")) {
      const answer = await frame.fetch(tag.href || tag.src);
      const size = (await answer.arrayBuffer()).byteLength;
      names.push(new URL(answer.url).searchParams.get("f") + " " + (answer.ok && size > 0));
    }
    const sheets = frame.document.styleSheets.length;
    return [...names, sheets, typeof frame.openShell].join(", ");
  },
};

(async () => {
  const seen = [];
  for (let number = 0; number < Number(query.get("times")); number++) {
    seen.push(await once(page(number)));
  }
  const report = {pages: seen, debugger: await once(debugged)};
  await fetch("/report", {method: "POST", body: JSON.stringify(report)});
})();
</script>"""


def page(number):
    """The page, for the load ``number``: nothing of it is found in the cache."""
    sheets = "".join(f'<link rel=stylesheet href="/sheet{one}?{number}">' for one in SHEETS)
    scripts = "".join(f'<script src="/script{one}?{number}"></script>' for one in SCRIPTS)
    images = "".join(f'<img src="/image{one}?{number}">' for one in IMAGES)
    texts = "".join(f'<p style="font-family: font{one}">A</p>' for one in FONTS)
    return f"<!doctype html><script>loaded = 0</script>{sheets}{texts}{images}{scripts}".encode()


def resource(name, number):
    """(media type, content) of a resource of the page."""
    time.sleep(0.02 if name in SLOW else 0)
    kind = name.rstrip("0123456789")
    if kind == "script":
        return "text/javascript", b"loaded++; //" + b"x" * 20_000
    if kind == "image":
        return "image/svg+xml", IMAGE % (b"x" * 50_000)
    if kind == "font":
        return "font/ttf", FONT
    rule = f'@font-face {{ font-family: font{name[5:]}; src: url("/font{name[5:]}?{number}") }}'
    return "text/css", f"{rule} p {{ margin: 0 }}".encode()


debugged = debugger()


def application(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]
    if path.startswith("/debugger/"):
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/debugger", path.removeprefix("/debugger")
        return debugged(environ, start_response)
    kind, content = "text/plain", b""
    if path == "/report":
        print("report", json.dumps(json.load(environ["wsgi.input"])), file=environ["wsgi.errors"])
    elif path == "/":
        kind, content = "text/html", DRIVER.encode()
    elif path == "/page":
        kind, content = "text/html", page(query)
    elif path != "/favicon.ico":
        kind, content = resource(path[1:], query)
    start_response("200 OK", [("Content-Type", kind), ("Cache-Control", "no-store")])
    return [content]
