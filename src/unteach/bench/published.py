"""Figures of the papers, to stand beside ours; and how their recipe differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Published:
    """A table as it was printed: rows of columns, in our names."""

    source: str
    differs: str
    rows: Mapping[str, Mapping[str, float]]


def _amun(rows: dict[str, tuple[float, float, float, float, float]]) -> dict[str, dict[str, float]]:
    columns = ("forget acc.", "retain acc.", "test acc.", "RMIA AUC", "Avg Gap")
    return {name: dict(zip(columns, (*row[:3], row[3] / 100, row[4]))) for name, row in rows.items()}


def _mufac(rows: dict[str, tuple[float, float, float]]) -> dict[str, dict[str, float]]:
    return {name: dict(zip(("U", "F", "NoMUS"), row)) for name, row in rows.items()}


_AMUN_DIFFERS = (
    "ResNet-18 of 200 epochs on the original images, 50,000 of them, 3 originals × 3 forget sets × 3 runs, FT AUC by "
    "RMIA with 128 references, also in their Avg Gap, where ours has confidence; the profiles laptop and ci train another "
    "network on fewer images, without augmentation."
)
PUBLISHED: dict[str, Published] = {
    "cifar10-random10": Published(
        source="Ebrahimpour-Boroojeny et al., AMUN, ICML 2025, arXiv 2503.00917, CIFAR-10, 10 %",
        differs=_AMUN_DIFFERS,
        rows=_amun(
            {
                "retrained": (94.49, 100.0, 94.33, 50.00, 0.0),
                "finetune": (95.16, 96.64, 92.21, 52.08, 2.06),
                "random-label": (95.54, 97.47, 92.17, 51.33, 1.74),
                "gradient-ascent": (98.94, 99.22, 93.39, 60.96, 4.28),
                "boundary-shrink-retain": (99.14, 99.89, 93.04, 57.85, 3.48),
                "l1-sparse": (94.29, 95.63, 91.55, 51.21, 2.16),
                "salun": (96.25, 98.14, 93.06, 50.88, 1.44),
                "amun": (95.45, 99.57, 93.45, 50.18, 0.62),
                "amun-salun": (95.02, 99.58, 93.29, 50.72, 0.68),
                "amun-forget-only": (94.28, 97.47, 91.67, 52.24, 1.94),
            }
        ),
    ),
    "cifar10-random50": Published(
        source="Ebrahimpour-Boroojeny et al., AMUN, ICML 2025, arXiv 2503.00917, CIFAR-10, 50 %",
        differs=_AMUN_DIFFERS
        + " The gaps of gradient ascent, l1-sparse, SalUn and AMUN are as printed; the means of their own "
        "rows are 6.02, 3.14, 1.42 and 0.57.",
        rows=_amun(
            {
                "retrained": (92.09, 100.0, 91.85, 50.01, 0.0),
                "finetune": (94.24, 95.82, 91.21, 51.74, 2.17),
                "random-label": (94.83, 99.79, 90.08, 50.78, 1.38),
                "gradient-ascent": (100.0, 100.0, 94.65, 63.39, 4.62),
                "l1-sparse": (98.00, 98.71, 92.79, 54.44, 2.67),
                "salun": (96.68, 99.89, 91.97, 50.86, 1.36),
                "amun": (93.50, 99.71, 92.39, 49.99, 0.33),
            }
        ),
    ),
    "mufac-published": Published(
        source="Choi & Na, 2023, arXiv 2311.02240, README of their repository",
        differs="Original and retrained model do not share a recipe there: run anew, the printed one gives 50.7 % where the "
        "distributed original has 59.5 %; one run each.",
        rows=_mufac(
            {
                "original": (0.5951, 0.2136, 0.5839),
                "retrained": (0.4880, 0.0445, 0.6995),
                "finetune": (0.6055, 0.2129, 0.5898),
                "cf-3": (0.5900, 0.2126, 0.5824),
                "neggrad": (0.4048, 0.0485, 0.6539),
                "unsir": (0.5925, 0.1990, 0.5972),
                "scrub": (0.5984, 0.1415, 0.6577),
                "advanced neggrad": (0.5633, 0.0953, 0.6863),
            }
        ),
    ),
    "mucac": Published(
        source="Choi & Na, 2023, arXiv 2311.02240, README of their repository, multi-label",
        differs="Original of 8 epochs and retrained model of 7, without momentum; SCRUB there takes a softmax over "
        "three independent attributes; one run each.",
        rows=_mufac(
            {
                "original": (0.8852, 0.0568, 0.8858),
                "retrained": (0.8135, 0.0436, 0.8631),
                "finetune": (0.9147, 0.0708, 0.8865),
                "cf-k": (0.9197, 0.0685, 0.8913),
                "gradient-ascent": (0.4193, 0.0356, 0.6740),
                "scrub": (0.9073, 0.0478, 0.9058),
                "neggrad-plus": (0.7607, 0.0152, 0.8651),
            }
        ),
    ),
}


def columns_of(published: Published) -> list[str]:
    """The columns of its table."""
    return list(dict.fromkeys(column for row in published.rows.values() for column in row))


def beside(published: Published, ours: Mapping[str, Mapping[str, str]]) -> dict[str, list[tuple[str, str]]]:
    """Each printed number and ours as text, by row. ``ours``: row → column → number as text."""
    columns = columns_of(published)
    return {
        name: [
            (f"{row[column]:g}" if column in row else "-", ours.get(name, {}).get(column, "-")) for column in columns
        ]
        for name, row in published.rows.items()
    }


def as_markdown(published: Published, ours: Mapping[str, Mapping[str, str]]) -> str:
    """The printed table with our numbers in brackets."""
    columns = columns_of(published)
    lines = [
        f"Published: {published.source}. {published.differs} In brackets: here.",
        "",
        f"| method | {' | '.join(columns)} |",
        f"|---|{'---|' * len(columns)}",
    ]
    for name, cells in beside(published, ours).items():
        lines.append(f"| {name} | {' | '.join(f'{theirs} ({mine})' for theirs, mine in cells)} |")
    return "\n".join(lines) + "\n"
