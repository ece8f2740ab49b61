"""How a queue stands: its requests, what its runs cost and what the model lost, for terminal, page and programs."""

from __future__ import annotations

from typing import Any

from unteach.ledger import Queue, State
from unteach.ledger.policy import spent
from unteach.store import write_json, write_text


def show(queue: Queue) -> None:
    """Print how the queue stands; write it as status.json and status.html into its folder."""
    from rich.console import Console

    from unteach.report import queue_html

    state, told = queue.state(), queue.as_json()
    told["spent"] = spent(state)
    told["notes"] = queue.ledger.notes()
    write_json(queue.folder / "status.json", told)
    write_text(queue.folder / "status.html", queue_html(told))
    console = Console()
    if state.runs:
        console.print(runs_table(state))
    for line in sentences(state, told):
        console.print(line, highlight=False, soft_wrap=True)
    print(f"page: {queue.folder / 'status.html'}; the same as status.json")


def sentences(state: State, told: dict[str, Any]) -> list[str]:
    """What matters of a queue, in words."""
    counts = {
        status: len(state.with_status(status))
        for status in ("done", "waiting", "running", "rejected", "refused", "withdrawn")
    }
    found = [f"{len(state.requests)} requests" + "".join(f", {n} {status}" for status, n in counts.items() if n)]
    late = [request["number"] for request in told["requests"] if request["overdue"]]
    found += [f"past their due date: {', '.join(map(str, late))}"] if late else []
    if state.running:
        found.append(f"run {state.running.number} is at work, or was stopped: unteach request run goes on with it")
    found.append(f"model in use: {told['model']}")
    if told["spent"] is not None and state.since:
        share = f"{100 * told['spent']:.0f} % of one retraining"
        found.append(f"runs since the model was last trained from scratch: {len(state.since)}, for {share}")
    found += [f"time to retrain: {reason}" for reason in (state.advised.reasons if state.advised else ())]
    return [*found, *told["notes"]]


def requests_table(queue: Queue) -> Any:
    """The requests, one a row."""
    from rich.markup import escape

    table = _table("request", "received", "due", "ids", "status", "run", "note")
    state, at = queue.state(), queue.clock()
    for one in state.requests:
        status = f"{one.status}, late" if one.overdue(at) else one.status
        table.add_row(
            *(str(one.number), one.received[:16], one.due[:10], str(one.count), status, str(one.run or "")),
            escape("; ".join(filter(None, (one.why, one.note)))),
        )
    return table


def runs_table(state: State) -> Any:
    """The runs, one a row: what each cost, and what the model was like after it."""
    table = _table("run", "requests", "status", "epochs", "test, %", "agrees, %", "AUC", "earlier AUC")
    for run in state.runs:
        numbers = run.numbers
        asked = ", ".join(map(str, run.requests))
        table.add_row(
            str(run.number),
            f"all, {asked}" if run.retrain else asked,
            f"{run.status}, retrained" if run.retrain else run.status,
            f"{numbers['epochs']:.2f}" if numbers else "",
            f"{100 * numbers['test']:.2f}" if numbers else "",
            f"{100 * numbers['agreement']:.2f}" if numbers else "",
            *(_area(numbers.get(name)) for name in ("current", "earlier")),
        )
    return table


def _area(held: list[float] | None) -> str:
    return f"{held[0]:.3f}" if held else ""


def _table(*titles: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    words = ("status", "note", "requests", "received", "due")
    for title in titles:
        table.add_column(title, justify="left" if title in words else "right", overflow="fold")
    return table
