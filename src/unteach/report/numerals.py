"""Numbers as a reader meets them: a fixed number of decimals, a true minus sign, units said."""

from __future__ import annotations

from unteach.report.reading import number


def fixed(value: float, decimals: int, sign: bool = False) -> str:
    """Rounded, grouped by thousands, with a true minus sign and no negative zero."""
    rounded = round(value, decimals) + 0.0
    shown = f"{rounded:{'+' if sign and rounded else ''},.{decimals}f}"
    return shown.replace("-", "−")


def percent(share: float) -> str:
    """0.905 → 90.5%."""
    return fixed(100 * share, 1) + "%"


def percents(low_high: tuple[float, float]) -> str:
    """(0.899, 0.911) → 89.9–91.1, for print beside a percentage."""
    return f"{fixed(100 * low_high[0], 1)}–{fixed(100 * low_high[1], 1)}"


def points(gap: float) -> str:
    """Signed hundredths: 0.58 → +0.6."""
    return fixed(gap, 1, sign=True)


def area(auc: float) -> str:
    """An AUC with three decimals."""
    return fixed(auc, 3)


def areas(low_high: tuple[float, float]) -> str:
    """(0.498, 0.526) → 0.498–0.526."""
    return f"{area(low_high[0])}–{area(low_high[1])}"


def rate(share: float) -> str:
    """A false-positive rate as short as it can be said: 0.001 → 0.1%."""
    return f"{100 * share:.3g}%"


def count(value: object) -> str:
    """A whole number grouped by thousands, or nothing."""
    read = number(value)
    return "" if read is None else f"{read:,.0f}"


def chance(p: float) -> str:
    """A p-value with three decimals, never 0."""
    return "< 0.001" if p < 0.001 else fixed(p, 3)


def duration(seconds: float) -> str:
    """Seconds in the two largest units that apply, each number kept on the line of its unit."""
    if seconds < 99.95:
        return f"{fixed(seconds, 1)}\u00a0s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}\u00a0min {whole % 60:02d}\u00a0s"
    return f"{whole // 3600:,}\u00a0h {whole % 3600 // 60:02d}\u00a0min"


def within(tolerance: float | None, decimals: int = 1) -> str:
    """What follows a target: ` ± 2.0`, or nothing without a tolerance."""
    return "" if tolerance is None else f" ±\u00a0{fixed(tolerance, decimals)}"
