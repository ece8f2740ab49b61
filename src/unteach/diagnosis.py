"""What one can tell of a forgetting by looking at no more than the operator has, and which knob to turn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from unteach import knobs
from unteach.audit.statistics import auc
from unteach.engine import Engine
from unteach.guard import Watch, accuracy
from unteach.types import Card, Examples, Method, Split

SAMPLE = 2000  # forget, retained and validation examples that are looked at, of each


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A method's result at first sight: no test set, no retrained model, so no verdict.

    ``kind``: collapsed, kept (a safe state in a collapsed one's place), idle (nothing seems forgotten), excessive (forget
    examples are answered worse than unseen ones) or fine. ``sentence``: what was seen, and the knob and its direction.
    ``before``, ``after``: accuracies (0–1) on forget, retain and validation examples, as far as they are there, and ``apart``,
    the AUC (0–1) by which confidence tells retained from forgotten examples: 0.5 where they look alike.
    """

    kind: str
    sentence: str
    before: dict[str, float]
    after: dict[str, float]


def diagnose(
    original: torch.nn.Module, new: torch.nn.Module, parts: Split, method: Method, engine: Engine, watch: Watch | None
) -> tuple[torch.nn.Module, Diagnosis]:
    """The model to go on with, the guard's where the method's own collapsed, and what can be said of it."""
    kept = False
    reached = 1.0
    if watch is not None:
        reached = accuracy(new, watch.known, engine)
        new, _, kept = watch.settle(new)
    looked = {"forget": parts.forget, "retain": parts.retain, "validation": parts.validation}
    examples = {name: _spread(part) for name, part in looked.items() if part is not None and len(part)}
    before, after = (_look(model, examples, engine) for model in (original, new))
    if watch is not None and (kept or reached < watch.least):
        kind, seen = ("kept", _kept(watch, reached)) if kept else ("collapsed", _collapsed(watch, reached))
        advised = turn(method, more=False)
    elif worse := _worse_than_unseen(examples, after):
        kind, seen, advised = "excessive", worse, turn(method, more=False)
    elif idle := _idle(examples, before, after, "class" in method.needs or _whole_classes(parts)):
        kind, seen, advised = "idle", idle, turn(method, more=True)
    else:
        kind, seen, advised = "fine", _plainly(before, after), ""
    if watch is not None and watch.enough:
        seen = f"{watch.enough}; {seen}"
    return new, Diagnosis(kind=kind, sentence=f"{seen}{'; ' if advised else ''}{advised}.", before=before, after=after)


def turn(method: Method, *, more: bool) -> str:
    """Which setting to turn, which way, from what: "raise optim.lr (now 0.05)"; empty where the card names none."""
    card: Card | None = getattr(type(method), "card", None)
    if card is None or card.more is None:
        return ""
    name, way = card.more
    verb = "raise" if (way == "up") is more else "lower"
    value = knobs.knob(method, name)
    now = "chosen by the method" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
    return f"{verb} {name} (now {now})"


def advice(method: Method, verdict: str) -> str:
    """One sentence after an audit: the knob and its direction for this verdict; empty where none helps."""
    under, over = verdict.startswith("under"), verdict.startswith("over")
    if not (under or over):
        return ""
    advised = turn(method, more=under)
    if not advised:
        return ""
    return f"To forget {'more' if under else 'less'}, {advised}, or let `unteach tune` look for settings."


def _look(model: torch.nn.Module, examples: dict[str, Examples], engine: Engine) -> dict[str, float]:
    """Accuracies, and how far forgotten and retained examples are apart; not billed, for it is no part of the method."""
    billed, seen, sure = engine.meter.forwards, {}, {}
    for name, part in examples.items():
        logits = engine.logits(model, part.inputs).nan_to_num(0.0)
        seen[name] = float(part.task.correct(logits, part.labels).mean())
        sure[name] = part.task.confidence(logits, part.labels).numpy()
    engine.meter.forwards = billed
    return seen | ({"apart": auc(sure["retain"], sure["forget"])} if "retain" in sure else {})


def _spread(examples: Examples) -> Examples:
    if len(examples) <= SAMPLE:
        return examples
    return examples.take(torch.linspace(0, len(examples) - 1, SAMPLE).round().long())


def _whole_classes(parts: Split) -> bool:
    if parts.retain is None or parts.forget.labels.ndim != 1:
        return False
    return not set(parts.forget.labels.tolist()) & set(parts.retain.labels.tolist())


def _error(rate: float, count: int) -> float:
    """Standard error of a share, never quite nothing."""
    return math.sqrt(max(rate * (1 - rate), 1 / count) / count)


def _worse_than_unseen(examples: dict[str, Examples], after: dict[str, float]) -> str:
    """Forget examples answered clearly worse than examples that the network never saw: retraining would do no such thing."""
    if "validation" not in examples:
        return ""
    forget, unseen = after["forget"], after["validation"]
    limit = 3 * math.hypot(_error(forget, len(examples["forget"])), _error(unseen, len(examples["validation"])))
    same = set(_labels(examples["forget"])) >= set(_labels(examples["validation"]))
    if not same or unseen - forget <= limit:
        return ""
    return (
        f"forgotten examples are answered worse ({_percent(forget)} right) than ones the network never saw ({_percent(unseen)}): "
        "more was forgotten than retraining would"
    )


def _idle(examples: dict[str, Examples], before: dict[str, float], after: dict[str, float], classes: bool) -> str:
    """Whether the forget set is answered as before, or a whole class is still known."""
    forget = after["forget"]
    if classes:
        known = 0.05
        return f"of the forgotten classes {_percent(forget)} are still answered right" if forget > known else ""
    limit = 2 * _error(before["forget"], len(examples["forget"]))
    beside = after.get("retain", before.get("retain", 1.0))
    if before["forget"] - forget > limit or beside - forget > limit:
        return ""
    if "apart" in after:
        n, m = len(examples["forget"]), len(examples["retain"])
        if after["apart"] - max(before["apart"], 0.5) > 2 * math.sqrt((n + m + 1) / (12 * n * m)):
            return ""
    return (
        f"forgotten examples are answered as before ({_percent(forget)} right, retained ones {_percent(beside)}): nothing was "
        "forgotten, or nothing had been memorised"
    )


def _labels(examples: Examples) -> list[Any]:
    return sorted(set(examples.labels.tolist())) if examples.labels.ndim == 1 else []


def _kept(watch: Watch, reached: float) -> str:
    label, epoch, then = watch.safe_at
    return (
        f"the network collapsed ({_percent(reached)} right on retained examples, {_percent(watch.start)} before), so its state "
        f"after epoch {epoch} of {label} was kept ({_percent(then)})"
    )


def _collapsed(watch: Watch, reached: float) -> str:
    return (
        f"the network collapsed ({_percent(reached)} right on retained examples, {_percent(watch.start)} before) and there is "
        "no safe state to keep; do not use it"
    )


def _plainly(before: dict[str, float], after: dict[str, float]) -> str:
    told = [f"{name} {_percent(before[name])} to {_percent(after[name])}" for name in after if name != "apart"]
    apart = (
        f"; retained and forgotten examples are told apart with AUC {after['apart']:.3f} ({before['apart']:.3f} before)"
    )
    return f"accuracy went from {', '.join(told)}" + (apart if "apart" in after else "")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
