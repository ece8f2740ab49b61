"""A matplotlib figure as inline SVG: byte-stable, without addresses, in the page's own colours and fonts."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Each ink is drawn as a number nobody uses and then named, so that the style sheet decides, light or dark.
INKS = {
    "#010101": "var(--ink)",
    "#020202": "var(--ink-soft)",
    "#030303": "var(--rule)",
    "#040404": "var(--chart-original)",
    "#050505": "var(--chart-unlearned)",
    "#060606": "var(--chart-retrained)",
    "#070707": "var(--chart-unseen)",
    "#080808": "var(--chart-band)",
}
INK, SOFT, RULE, ORIGINAL, UNLEARNED, RETRAINED, UNSEEN, BAND = INKS

STYLE = {
    "svg.fonttype": "none",
    "font.size": 12,
    "axes.labelsize": 12,
    "xtick.labelsize": 12,
    "ytick.labelsize": 12,
    "legend.fontsize": 12,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": RULE,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
}


def drawn(name: str, label: str, size: tuple[int, int], draw: Callable[[Figure], None]) -> str:
    """The SVG element of a figure.

    ``name`` salts its ids (different on one page), ``label`` is read aloud in place of the picture, ``size``
    is width and height in the picture's own units, in which text is 12 high.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    # Reset first: a user's matplotlibrc must not change the bytes.
    with matplotlib.style.context({**STYLE, "svg.hashsalt": name}, after_reset=True):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), dpi=72, layout="constrained")
        draw(figure)
        written = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(written, format="svg", transparent=True, metadata=nothing)
    return _inline(written.getvalue(), label, size)


def _inline(svg: str, label: str, size: tuple[int, int]) -> str:
    body = svg[svg.index(">", svg.index("<svg")) + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    used = set(re.findall(r"(?:url\(#|href=\"#)([^)\"]+)", body))
    body = re.sub(r' id="([^"]+)"', lambda m: m[0] if m[1] in used else "", body)
    for ink, name in INKS.items():
        body = body.replace(ink, name)
    body = re.sub(r"\n\s*", "\n", body)
    return f'<svg viewBox="0 0 {size[0]} {size[1]}" role="img" aria-label="{html.escape(label)}">{body.strip()}'
