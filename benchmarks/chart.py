"""The results as a bar chart: one group a scenario, one bar a server, forkserve in colour."""

from typing import Any
from xml.sax.saxutils import escape

_WIDTH = 860
_LEFT, _RIGHT = 150, 90
_BAR, _GAP, _GROUP = 14, 3, 34


def draw(results: dict[str, Any]) -> str:
    """An SVG document."""
    parts: list[str] = []
    top = 60
    for scenario, result in results["scenarios"].items():
        medians = {name: rate for name, rate in result["median"].items() if rate}
        if not medians:
            continue
        most = max(medians.values())
        parts.append(f'<text x="16" y="{top - 8}" class="scenario">{escape(scenario)}</text>')
        for name, rate in medians.items():
            length = (_WIDTH - _LEFT - _RIGHT) * rate / most
            kind = "ours" if name == "forkserve" else "peer"
            middle = top + _BAR - 3
            parts.append(
                f'<text x="{_LEFT - 8}" y="{middle}" class="name">{escape(name)}</text>'
                f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" class="{kind}"/>'
                f'<text x="{_LEFT + length + 6:.1f}" y="{middle}">{rate:,.0f}</text>'
            )
            top += _BAR + _GAP
        top += _GROUP
    machine = results["machine"]
    caption = (
        f"Requests per second, one worker on one processor, {results['connections']} connections. "
        f"{machine['processor']}, Linux {machine['kernel']}, Python {machine['python']}, "
        f"{results['date']}."
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" '
        f'viewBox="0 0 {_WIDTH} {top}" font-family="sans-serif" font-size="12">\n'
        "<style>.scenario{font-weight:bold;font-size:14px}.name{text-anchor:end}"
        ".ours{fill:#2a7de1}.peer{fill:#b8bfc8}text{fill:#222}</style>\n"
        f'<rect width="{_WIDTH}" height="{top}" fill="#fff"/>\n'
        f'<text x="16" y="24">{escape(caption)}</text>\n' + "\n".join(parts) + "\n</svg>\n"
    )
