"""The page to watch a queue with: one file, whose policy lets a browser run its own script and load nothing else."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Page:
    """The page and the content security policy it is sent with."""

    html: str
    policy: str

    @classmethod
    def with_style(cls, style: str) -> Page:
        """The page in this style sheet and its own few rules."""
        style = f"{style}\n{(HERE / 'page.css').read_text('utf-8')}"
        script = (HERE / "page.js").read_text("utf-8")
        html = (HERE / "page.html").read_text("utf-8").replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
        rules = {
            "default-src": "'none'",
            "script-src": _hash(script),
            "style-src": _hash(style),
            "connect-src": "'self'",
            "img-src": "data:",
            "base-uri": "'none'",
            "form-action": "'none'",
            "frame-ancestors": "'none'",
        }
        return cls(html=html, policy="; ".join(f"{name} {value}" for name, value in rules.items()))


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
