"""Checkpoint files of any common form: where a network's weights are in them, and how to write others in their place."""

from __future__ import annotations

from unteach.formats.files import Held, opened
from unteach.formats.layout import Layout, fit, load

__all__ = ["Held", "Layout", "fit", "load", "opened"]
