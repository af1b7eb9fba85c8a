"""The figures as a section of ``benchmarks/README.rst``."""

from typing import Any

from benchmarks.tables import table

_TEMPLATE = """\


Nothing is lost
===============

::

    make soak                                    # all of it: about an hour
    make soak SOAK="hup term-load"               # some rows; the others keep their figures
    make soak SOAK="--quick"                     # as in make test; writes nothing
    make soak SOAK="--list"

Clients of every kind at once (busy, slow, uploading, streaming, idle) send requests with an id each
and keep their connections for as long as the server lets them. They count answers, losses and
closes; the application notes each id that it is called for. No request is sent twice: what the end
of a connection takes with it is lost. It writes ``soak.json`` and this section.

"longest" and "p99" are from the last octet of a request to the first of its answer. Where the
clients share two processors with the server, such times include the wait for a processor.

A row has failed if one of its figures has. "but" names what the server cannot do yet, and what
would fail for that reason alone.

{summary}

The figures, each with its bound:

{rows}
"""


def section(results: dict[str, Any]) -> str:
    """``results`` as in ``soak.json``; nothing if there are none."""
    if not results:
        return ""
    header = ("Row", "What happens", "Date", "Requests", "Lost", "Closed", "")
    return _TEMPLATE.format(
        summary=table(header, [_summary(name, it) for name, it in results.items()]),
        rows="\n\n".join(_row(name, it) for name, it in results.items() if not it["missing"]),
    )


def _summary(name: str, result: dict[str, Any]) -> list[str]:
    if result["missing"]:
        return [name, result["event"], "--", "--", "--", "--", f"not there: {result['missing']}"]
    values = {check["name"]: _number(check["value"]) for check in result["checks"]}
    figures = [values.get(key, "--") for key in ("requests", "lost", "connections closed")]
    return [name, result["event"], result["date"], *figures, _verdict(result)]


def _verdict(result: dict[str, Any]) -> str:
    outcomes = {check["outcome"] for check in result["checks"]}
    if "FAILED" in outcomes or result["problem"]:
        return "**failed**"
    absent = [check for check in result["checks"] if check["outcome"] == "not there"]
    absent = [it for it in absent if not _is_good(it)]
    words = {word for it in absent for word in it["missing"].split(", ")}
    names = ", ".join(sorted(words))
    return f"passed, but {names}" if names else "passed"


def _is_good(check: dict[str, Any]) -> bool:
    if check["at_least"]:
        return bool(check["value"] >= check["bound"])
    return bool(check["value"] <= check["bound"])


def _row(name: str, result: dict[str, Any]) -> str:
    lines = [f"**{name}**: {result['event']}"]
    told = [_figure(check) for check in result["checks"] if check["bound"] is None]
    lines.append(f"    {result['date']}, {result['seconds']:.0f} s. {', '.join(told)}.")
    lines.append("")
    for check in result["checks"]:
        if check["bound"] is not None:
            lines.append(f"    * {_figure(check)} ({_bound(check)}): {_outcome(check)}")
    if result["problem"]:
        lines.append(f"    * It did not come to its end: {result['problem'].splitlines()[0][:200]}")
    return "\n".join(lines)


def _figure(check: dict[str, Any]) -> str:
    return f"{check['name']} {_number(check['value'])}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value == int(value) or value >= 1000 else f"{value:.3g}"


def _bound(check: dict[str, Any]) -> str:
    return f"{'at least' if check['at_least'] else 'at most'} {_number(check['bound'])}"


def _outcome(check: dict[str, Any]) -> str:
    if check["outcome"] == "not there":
        return f"not there yet ({check['missing']})"
    return str(check["outcome"])
