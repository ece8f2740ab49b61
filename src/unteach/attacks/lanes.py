"""Many examples under attack at once: those that finish leave, and the queue fills their places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from unteach.attacks.found import Found
from unteach.attacks.margins import margin, task_of, wrong
from unteach.attacks.probe import Probe

SURE = 1e-4
"""A flip narrower than this share of the clean margin does not count: another batch size could undo it."""


@dataclass(eq=False)
class Lanes:
    """The examples still running, ``n`` rows in every field.

    ``row``: place in the data. ``origin``: clean input. ``point``: where the walk stands. ``best``: nearest
    point seen to flip, at L2 ``distance`` (infinite before). ``scale``: the clean margin. ``epsilon``:
    radius. ``count``: steps. ``gradients``: spent so far.
    """

    row: torch.Tensor
    origin: torch.Tensor
    label: torch.Tensor
    point: torch.Tensor
    best: torch.Tensor
    distance: torch.Tensor
    scale: torch.Tensor
    epsilon: torch.Tensor
    count: torch.Tensor
    gradients: torch.Tensor

    def keep(self, mask: torch.Tensor) -> Lanes:
        return Lanes(*(getattr(self, f.name)[mask] for f in fields(self)))

    def join(self, other: Lanes) -> Lanes:
        return Lanes(*(torch.cat([getattr(self, f.name), getattr(other, f.name)]) for f in fields(self)))


def norms(tensor: torch.Tensor) -> torch.Tensor:
    """L2 norm of each example, shape ``n``."""
    lengths: torch.Tensor = torch.linalg.vector_norm(tensor.flatten(1), dim=1)
    return lengths


def each(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """One value per example, shaped to multiply tensors like the other."""
    return values.view(-1, *[1] * (like.ndim - 1))


def untouched(inputs: torch.Tensor, labels: torch.Tensor) -> Found:
    """The state before any attack: clean inputs as floats in 0–1, nothing found, nothing asked."""
    floats = inputs.cpu().float().div(255) if inputs.dtype == torch.uint8 else inputs.detach().cpu().float().clone()
    zeros = torch.zeros(len(inputs))
    none = torch.zeros(len(inputs), dtype=torch.int64)
    return Found(floats, labels.cpu().clone(), zeros, zeros.clone(), none.bool(), none, none.clone())


def clean_answers(probe: Probe, inputs: torch.Tensor, labels: torch.Tensor) -> tuple[Found, torch.Tensor]:
    """The state before any attack, and the clean margins: already wrong examples are found, at distance 0."""
    found = untouched(inputs, labels)
    rows = torch.split(torch.arange(len(labels)), probe.batch)
    return found, torch.cat([_answer(probe, found, labels, part) for part in rows])


def drive(
    probe: Probe,
    found: Found,
    labels: torch.Tensor,
    scale: torch.Tensor,
    rows: torch.Tensor,
    epsilon: float,
    advance: Callable[[Lanes], torch.Tensor],
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Walk every example in ``rows`` to its end and write what was found into ``found``, and its scale into ``scale``.

    ``advance`` moves all lanes one gradient on, in place, and says which are done. An example's clean input
    is read from ``found.inputs``; the best flip, when there is one, is written over it.
    """
    queue, total, over = rows, len(rows), 0
    lanes = _enter(probe, found, labels, scale, queue[:0], epsilon)
    while len(lanes.row) or len(queue):
        free = probe.batch - len(lanes.row)
        if len(queue) and free:
            lanes = lanes.join(_enter(probe, found, labels, scale, queue[:free], epsilon))
            queue = queue[free:]
        lanes.gradients += 1
        done = advance(lanes)
        if bool(done.any()):
            over += _leave(found, scale, lanes.keep(done))
            lanes = lanes.keep(~done)
            if progress is not None:
                progress(over, total)


def _enter(
    probe: Probe, found: Found, labels: torch.Tensor, scale: torch.Tensor, rows: torch.Tensor, epsilon: float
) -> Lanes:
    x = probe.place(found.inputs[rows])
    n = len(rows)
    full = torch.full((n,), torch.inf, device=probe.device)
    return Lanes(
        row=rows.to(probe.device),
        origin=x,
        label=labels[rows].to(probe.device),
        point=x.clone(),
        best=x.clone(),
        distance=full,
        scale=scale[rows].to(probe.device).clamp_min(1e-6),
        epsilon=torch.full_like(full, epsilon),
        count=torch.zeros(n, dtype=torch.int64, device=probe.device),
        gradients=torch.zeros(n, dtype=torch.int64, device=probe.device),
    )


def _leave(found: Found, scale: torch.Tensor, lanes: Lanes) -> int:
    rows = lanes.row.cpu()
    scale[rows] = lanes.scale.cpu()
    found.gradients_each[rows] += lanes.gradients.cpu()
    hit = lanes.distance.isfinite().cpu()
    found.success[rows] = hit
    found.inputs[rows[hit]] = lanes.best.cpu()[hit].contiguous()
    found.distances[rows[hit]] = lanes.distance.cpu()[hit]
    found.epsilons[rows] = lanes.epsilon.cpu()
    return len(rows)


def settle(probe: Probe, found: Found, labels: torch.Tensor, rows: torch.Tensor | None = None) -> None:
    """The last word on every example, or on those at ``rows``: the model's answer to what was found."""
    for part in torch.split(torch.arange(len(labels)) if rows is None else rows, probe.batch):
        _answer(probe, found, labels, part)


def _answer(probe: Probe, found: Found, labels: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Ask the model about one batch of what was found, note its answers, return its margins, shape of ``rows``."""
    if not len(rows):
        return torch.zeros(0)
    y = labels[rows].to(probe.device)
    logits = probe.exact(probe.place(found.inputs[rows]))
    found.labels[rows] = task_of(logits, y).predict(logits).to(y.dtype).cpu()
    found.success[rows] = wrong(logits, y).cpu()
    found.forwards_each[rows] += 1
    return margin(logits, y).cpu()
