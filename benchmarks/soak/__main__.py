"""Run the rows of "nothing is lost", and write what came of it.

    python -m benchmarks.soak [--quick] [--list] [--out DIRECTORY] [ROW...]

A row that is run replaces its figures in soak.json; those of the others stay, with their dates.
"""

import argparse
import datetime
import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.report import document
from benchmarks.soak import concurrency, ends, reloads
from benchmarks.soak.rig import ROWS, Check, Row, Run, missing

HERE = Path(__file__).parents[1]
MODULES = [module.__name__ for module in (reloads, ends, concurrency)]
"""What declares the rows, in the order of the report."""


def result_of(row: Row, *, quick: bool) -> dict[str, Any]:
    """Run one row."""
    result: dict[str, Any] = {
        "event": row.event,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "missing": missing(row.needs),
        "seconds": 0.0,
        "problem": "",
        "checks": [],
    }
    if result["missing"]:
        return result
    run = Run(quick=quick)
    began = time.monotonic()
    try:
        with run:
            row.function(run)
    except Exception as error:  # noqa: BLE001 - the others are to run
        result["problem"] = f"{type(error).__name__}: {str(error)[:2000]}"
    result["seconds"] = round(time.monotonic() - began, 1)
    result["checks"] = [_check(check) for check in run.checks]
    for table in run.tables[:3]:
        print(table)
    return result


def _check(check: Check) -> dict[str, Any]:
    return {
        "name": check.name,
        "value": check.value,
        "bound": check.bound,
        "at_least": check.at_least,
        "outcome": check.outcome,
        "missing": missing(check.needs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="all by default")
    parser.add_argument("--quick", action="store_true", help="short, and write nothing")
    parser.add_argument("--list", action="store_true", help="name the rows")
    parser.add_argument("--out", type=Path, default=HERE, help="directory of the results")
    options = parser.parse_args()
    rows = dict(sorted(ROWS.items(), key=lambda it: MODULES.index(it[1].function.__module__)))
    unknown = set(options.rows) - set(ROWS)
    if unknown:
        parser.error(f"no row is called {', '.join(sorted(unknown))}")
    if options.list:
        for name, row in rows.items():
            print(f"{name:14} {row.event}")
        return
    path = options.out / "soak.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    good = True
    for name, row in rows.items():
        if options.rows and name not in options.rows:
            continue
        result = result_of(row, quick=options.quick)
        good &= not result["problem"]
        good &= all(check["outcome"] != "FAILED" for check in result["checks"])
        show(name, result)
        if not options.quick:
            results[name] = result
            results = {key: results[key] for key in rows if key in results}
            path.write_text(json.dumps(results, indent=1) + "\n")
    figures = HERE / "results.json"
    if not options.quick and options.out == HERE:
        (HERE / "README.rst").write_text(document(json.loads(figures.read_text()), results))
    sys.exit(not good)


def show(name: str, result: dict[str, Any]) -> None:
    """On the terminal."""
    if result["missing"]:
        print(f"{name}: not there ({result['missing']})", flush=True)
        return
    print(f"{name}: {result['event']} ({result['seconds']} s)")
    for check in result["checks"]:
        limit = ""
        if check["bound"] is not None:
            limit = f"{'>=' if check['at_least'] else '<='} {check['bound']:g}"
        print(f"    {check['outcome']:9} {check['name']:40} {check['value']:<12g} {limit}")
    if result["problem"]:
        print(f"    FAILED    {result['problem']}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
