"""DAU's attacker: the network that tells forgotten examples from held-out ones, its steps and its pre-training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from unteach.data.augment import Augment, Resident
from unteach.engine import Engine, Stage
from unteach.models.anatomy import with_features
from unteach.sensitivity import Sensitivity, probing
from unteach.store import digest_of, fingerprint, load_into, load_tensors, record, save_tensors
from unteach.types import Examples

FORGOTTEN, HELD_OUT = 1, 0  # the attacker's labels


class Attacker(nn.Module):
    """Evidence ``n × 3K`` in (logits, labels as 0/1, sensitivities), logits ``n × 2`` out: held out, forgotten.

    Standardised over the batch, then a sequence of K tokens of width 3, one a class, without positions: to width 64, a
    transformer encoder of 3 post-norm layers, and two linear layers on all tokens at once.
    *Source:* as ``unteach.methods.dau``. *Departs:* nowhere known.
    """

    def __init__(self, classes: int, width: int = 64) -> None:
        super().__init__()
        self.standardise = nn.BatchNorm1d(3 * classes)
        self.embed = nn.Sequential(nn.Unflatten(1, (3, classes)), Transpose(), nn.Linear(3, width), nn.GELU())
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.2, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(width * classes, 64), nn.ReLU(), nn.Linear(64, 2))

    def forward(self, evidence: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.encoder(self.embed(self.standardise(evidence))))
        return out


class Transpose(nn.Module):
    """``n × 3 × K`` to ``n × K × 3``."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2)


def evidence(
    network: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    sensitivity: Sensitivity,
    *,
    rows: int | None = None,
    trace: bool = True,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the attacker sees of these examples, ``n × 3K``, and their features, ``n × d``; gradients flow through both.

    Only outside of autocast: bf16 can't resolve what noise of 0.001 changes. ``trace=False``: batch norm's running
    statistics stay as they are. ``rows``: how many examples all processes are shown, if others are.
    """
    with probing(network, rows or len(inputs), trace=trace):
        with with_features(network) as answer:
            logits, features = answer(inputs)
        moved = sensitivity(network, inputs, logits, rows)
    marks = labels if labels.ndim == 2 else nn.functional.one_hot(labels, logits.shape[1])
    return torch.cat((logits, marks.to(logits.dtype), moved), 1), features.flatten(1)


def deceived(attacker: Attacker, seen: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of each example under swapped labels; gradients flow to the evidence, not to the attacker."""
    still = {name: weight.detach() for name, weight in attacker.named_parameters()}
    logits = torch.func.functional_call(attacker, still, (seen,))
    return nn.functional.cross_entropy(logits, 1 - truth, reduction="none")


def learn(
    attacker: Attacker, adam: torch.optim.Adam, seen: torch.Tensor, truth: torch.Tensor, engine: Engine
) -> torch.Tensor:
    """One step of the attacker on detached evidence; returns how many of this process's examples it told right before it.

    All processes take the step of the mean over all their examples, so that their attackers stay the same.
    """
    weights = list(attacker.parameters())
    logits = attacker(seen.detach())
    loss = nn.functional.cross_entropy(logits, truth, reduction="sum")
    gradients = [gradient.flatten() for gradient in torch.autograd.grad(loss, weights)]
    local = torch.cat([*gradients, loss.new_tensor([float(len(truth))])])
    total = engine.total(local)
    means = torch.split_with_sizes(total[:-1] / total[-1], [weight.numel() for weight in weights])
    for weight, gradient in zip(weights, means):
        weight.grad = gradient.view_as(weight)
    adam.step()
    adam.zero_grad(set_to_none=True)
    right: torch.Tensor = logits.detach().argmax(1) == truth
    return right.sum()


def truths(count: int, device: torch.device) -> torch.Tensor:
    """The attacker's labels of ``count`` forgotten examples and then as many held-out ones."""
    return torch.tensor([FORGOTTEN, HELD_OUT], device=device).repeat_interleave(count)


@dataclass(frozen=True, kw_only=True)
class Practice:
    """The attacker's pre-training: tell a network's training examples from held-out ones, the network at rest.

    In every iteration as many of each, drawn at random, are shown to it in one step. *Departs:* both are varied by
    ``augment`` or neither is; where only training examples vary, the attacker learns to see that instead.
    """

    iterations: int
    batch: int
    lr: float
    sensitivity: Sensitivity
    augment: Augment | None

    def __call__(
        self,
        attacker: Attacker,
        network: nn.Module,
        members: Examples,
        held_out: Examples,
        *,
        seed: int,
        engine: Engine,
    ) -> None:
        """Train an attacker in place; an event tells the share it told right in the last hundred iterations."""
        adam = torch.optim.Adam(attacker.parameters(), lr=self.lr)
        pools = [(each, Resident(each.inputs, self.augment, engine.device)) for each in (members, held_out)]
        mine = engine.part(self.batch)
        truth = truths(mine.stop - mine.start, engine.device)
        shared = mine != slice(0, self.batch)
        right, shown = torch.zeros((), device=engine.device), 0
        order = torch.Generator().manual_seed(seed)
        vary = torch.Generator().manual_seed(seed + 1)
        with (
            engine.together(*([network, attacker] if shared else [])),
            torch.random.fork_rng(devices=[engine.device] if engine.device.type == "cuda" else []),
        ):
            torch.manual_seed(seed * 1_000_003 + engine.rank)
            for step in range(self.iterations):
                seen = []
                for examples, images in pools:
                    rows = torch.randint(len(examples), (self.batch,), generator=order)
                    labels, inputs = examples.labels[rows[mine]].to(engine.device), images.batch(rows, vary, mine)
                    with torch.no_grad():
                        told, _ = evidence(network, inputs, labels, self.sensitivity, rows=self.batch, trace=False)
                    seen.append(told)
                hits = learn(attacker, adam, torch.cat(seen), truth, engine)
                if step >= self.iterations - 100:
                    right, shown = right + hits, shown + len(truth)
                engine.meter.forwards += len(truth) * (1 + self.sensitivity.draws)
                engine.events.progress("dau attacker", step + 1, self.iterations)
        engine.events.emit("dau attacker", accuracy=float(right) / shown if shown else None)


def practised(
    practice: Practice,
    network: nn.Module,
    members: Examples,
    held_out: Examples,
    *,
    seed: int,
    engine: Engine,
    file: Path | None,
) -> Attacker:
    """A pre-trained attacker of this network, which stays as it is.

    ``file`` keeps it: for the same network, ids (in any order) and settings it is read and not trained again, whatever the
    seed. The bill then shows what it cost when it was made.
    """
    ids = [sorted(each.ids.tolist()) for each in (members, held_out)]
    key = digest_of([fingerprint(network), *ids, record(practice)])
    classes = engine.logits(network, members.inputs[:1]).shape[1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        attacker = Attacker(classes).to(engine.device)
    if file is not None and file.is_file():
        tensors, found = load_tensors(file)
        if found.get("key") == key:
            load_into(attacker, tensors, file)
            cost = found["cost"]
            engine.stages.append(Stage("dau attacker, reused (cost when made)", cost["seconds"], cost["units"]))
            return attacker
    with engine.stage("dau attacker"):
        practice(attacker, network, members, held_out, seed=seed, engine=engine)
    made = engine.stages[-1]
    if file is not None and engine.rank == 0:
        cost = {"seconds": made.seconds, "units": made.units}
        save_tensors(file, attacker.state_dict(), {"key": key, "cost": cost, "made_with": record(practice)})
    engine.wait()
    return attacker
