"""What a person sees: progress bars and the table of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def progress_bar(wanted: bool) -> Iterator[Callable[[str, int, int], None] | None]:
    """One line of progress per stage on the standard error, with the time left; nothing when it is no terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not wanted or not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        known: dict[str, TaskID] = {}

        def tell(label: str, done: int, total: int) -> None:
            if label not in known or bars.tasks[known[label]].total != total:
                known[label] = bars.add_task(label, total=total)
            bars.update(known[label], completed=done)

        yield tell


def results_table(findings: dict[str, Any]) -> Any:
    """Accuracies and the attack's AUC of every model, with the gaps to retraining below."""
    from rich.table import Table

    table = Table(title=f"{findings['request']['spec']} of {findings['request']['data']}: {findings['verdict']}")
    for column in ("accuracy, %", "forget", "retain", "test", "FT AUC", "95 % interval"):
        table.add_column(column, justify="left" if column == "accuracy, %" else "right", no_wrap=True)
    for name, model in findings["models"].items():
        accuracy = model["accuracy"]
        game = model["games"]["FT"]["confidence"]
        cells = [f"{100 * accuracy[part]:.2f}" if part in accuracy else "-" for part in ("forget", "retain", "test")]
        table.add_row(
            name.replace("held_out_", "held-out "),
            *cells,
            f"{game['auc']:.3f}",
            f"{game['low']:.3f}-{game['high']:.3f}",
        )
    gaps = findings.get("gaps")
    if gaps:
        cells = [f"{gaps[part]:+.2f}" for part in ("forget", "retain", "test")]
        table.add_row("gap, points", *cells, f"{gaps['ft_auc']:+.2f}", f"mean |gap| {gaps['average']:.2f}")
    return table
