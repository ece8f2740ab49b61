"""Distillation: how far a student's answers are from a teacher's, and what the teachers answer to a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from unteach.data.augment import Augment
from unteach.engine import Engine
from unteach.train import Batch, Sgd, Source
from unteach.types import MultiLabel, Refusal, Task

Answers = Callable[[Batch], "torch.Tensor"]


def divergence(task: Task, student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T² · KL(teacher ‖ student) of each example, both softened by the temperature T, in nats; logits ``n × K`` → ``n``.

    Of one class each: between the two softmaxes. Of several labels: between the two Bernoullis of each label, averaged over
    the labels as the task's loss is, so that a weight between the two terms means the same for any number of labels.
    *Source:* Hinton, Vinyals, Dean, Distilling the knowledge in a neural network, 2015, arXiv 1503.02531, section 2: T² keeps
    the gradient's size. *Departs:* nowhere known; public unlearning code also takes a softmax over independent labels, which
    compares them with one another and sees nothing of a change that all of them share.
    """
    from torch.nn.functional import kl_div, logsigmoid

    ours, theirs = student.float() / temperature, teacher.float() / temperature
    if isinstance(task, MultiLabel):
        yes = kl_div(logsigmoid(ours), logsigmoid(theirs), reduction="none", log_target=True)
        no = kl_div(logsigmoid(-ours), logsigmoid(-theirs), reduction="none", log_target=True)
        return temperature**2 * (yes + no).mean(1)
    terms = kl_div(ours.log_softmax(1), theirs.log_softmax(1), reduction="none", log_target=True)
    return temperature**2 * terms.sum(1)


def answers(
    teachers: Sequence[torch.nn.Module], sources: Sequence[Source], engine: Engine, optim: Sgd | None = None
) -> Answers:
    """A call that gives, for a batch of these sources, the logits of each example's own teacher: ``n × K``, no gradients.

    ``teachers``: one for each source, on the engine's device; they answer in eval mode, in which they are left. Inputs that
    never vary are answered once, here, and looked up; inputs that vary are answered as they are shown, and so are those of a
    source of which ``optim`` will show fewer than all in its epochs. Either is billed.
    """
    for teacher in teachers:
        teacher.eval()
    tables = [
        engine.logits(teacher, source.examples.inputs).to(engine.device) if _looked_up(source, optim) else None
        for teacher, source in zip(teachers, sources)
    ]

    def answer(batch: Batch) -> torch.Tensor:
        found, places = [], []
        for number, (teacher, table) in enumerate(zip(teachers, tables)):
            at = (batch.part == number).nonzero().squeeze(1)
            if not len(at):
                continue
            if table is not None:
                found.append(table[batch.row[at]])
            else:
                with torch.no_grad():
                    found.append(teacher(batch.inputs[at]).float())
                engine.meter.forwards += len(at)
            places.append(at)
        return torch.cat(found)[torch.cat(places).argsort()]

    return answer


def check_temperature(temperature: float) -> None:
    """Refuse a temperature that is not above 0."""
    if not 0 < temperature < float("inf"):
        raise Refusal(f"expected temperature above 0, got {temperature}; 1 leaves the answers as they are, 4 is usual")


def _looked_up(source: Source, optim: Sgd | None) -> bool:
    """Whether answering every example once, beforehand, is right and less work than as they are shown."""
    size = len(source.examples)
    return not _varies(source) and (optim is None or optim.shown(size) >= size)


def _varies(source: Source) -> bool:
    """Whether the same example may look different in another step; feature vectors do so by a user's own function only."""
    augment = source.augment or Augment()
    return bool(augment.own) or (augment != Augment() and source.examples.inputs.ndim == 4)
