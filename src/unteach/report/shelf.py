"""The templates of all pages, one way of filling them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = Path(__file__).parent / "templates"


@cache
def shelf() -> Environment:
    """The environment that pages are filled in: everything escaped, nothing missing passed over."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def style() -> Markup:
    """The style sheet, as it goes into a page."""
    from markupsafe import Markup

    return Markup((TEMPLATES / "style.css").read_text())
