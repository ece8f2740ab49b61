"""Findings → one self-contained HTML page, the same as Markdown, and canonical JSON. Only the cli imports it.

``write`` puts the files down · ``page`` fills the HTML template, ``markdown`` says the same in plain text ·
``contents``, ``tables`` and ``classes`` decide what stands in both, ``compared`` sets models side by side ·
``charts`` and ``svg`` draw, ``pictures`` embeds thumbnails · ``words`` holds every fixed sentence, ``glossary``
the terms · ``bench_page`` sets many audits side by side, ``queue_page`` tells of requests one after the other ·
``reading`` takes findings as they come, ``numerals`` writes numbers.
"""

from __future__ import annotations

from unteach.report.bench_page import Comparison, bench_html
from unteach.report.markdown import as_markdown
from unteach.report.page import as_html
from unteach.report.queue_page import queue_html
from unteach.report.write import as_json, render

__all__ = ["Comparison", "as_html", "as_json", "as_markdown", "bench_html", "queue_html", "render"]
