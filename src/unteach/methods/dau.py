"""DAU: unlearn against an attacker that learns, at the same time, to tell the forgotten from the never seen."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from unteach.data.augment import Augment
from unteach.engine import Engine, unwrapped
from unteach.precision import whole_fp32
from unteach.sensitivity import Sensitivity
from unteach.train import Batch, Sgd, Source, draw_seed, fit
from unteach.types import Card, Examples, MultiLabel, Range, Refusal, Split, Task

if TYPE_CHECKING:
    from unteach.attacker import Attacker


@dataclass(frozen=True, kw_only=True)
class Dau:
    """A game: an attacker learns to tell forget from validation examples, and the network to mislead it.

    1. The attacker is pre-trained on the original: training examples against validation examples, ``pretraining`` steps.
       It sees of each example logits, label and the sensitivity of each logit to tiny noise.
    2. Each step takes B retain, B forget and B validation examples (three passes, batch norm standardises each by itself).
       The attacker makes one Adam step on what it sees of the 2B, detached. Then the network descends
       CE(retain) + ``beta`` · (``deceive`` · L_A + ``correlation`` · L_BT): L_A is the attacker's cross-entropy under swapped
       labels; L_BT draws the correlations (d × d) of forget and validation features, paired at random, to the identity.
       Gradients flow through logits, sensitivities (2 · B · draws noisy images) and features.
    3. Of whole classes, steps up to ``stop_after`` go at ``boost`` times the rate; from then on β is 0, the retain loss alone.

    Forget and validation images are shown as they are; of whole classes they vary as retained ones do. Batch norm's running
    statistics see all that passes, noisy images too. Labels of a multi-label task enter the attacker as they are.
    *Source:* Sharma, Zhou, Ji, Chen, Discriminative Adversarial Unlearning, 2024, arXiv 2402.06864, known to us by its
    authors' public code. *Departs:* features are standardised with 1e-5 under the root; dropout and its like are off in what
    the attacker sees, which is fp32 without TF32 whatever the precision; pre-training shows members as forget images are
    shown; forget and validation examples come in endless shuffles, where the code draws every batch afresh; of several
    processes each draws noise and dropout for its own examples, and L_BT is its own.
    """

    beta: float = 1.0
    """Weight of all that is adversarial beside the retain loss, 0 or more; 0 is fine-tuning."""
    deceive: float = 0.9
    """Weight of misleading the attacker, 0 or more."""
    correlation: float = 0.001
    """Weight of the correlation of features, 0 or more; its target can't be met by random pairs, so keep it small."""
    sensitivity: Sensitivity = field(default_factory=Sensitivity)
    """How the sensitivity of the logits is measured; most of the work."""
    attacker_lr: float = 1e-3
    """Learning rate of the attacker (Adam), above 0."""
    pretraining: int = 1000
    """Steps of the attacker before the game, 0 or more."""
    stored: Path | None = None
    """File (.safetensors) of this model's pre-trained attacker; read if it is of these settings, written anew if not."""
    optim: Sgd = field(default_factory=lambda: Sgd(lr=0.01, epochs=3, batch=256, schedule="constant"))
    """Optimiser of the network; epochs are passes over the retain set."""
    stop_after: int | None = 30
    """Steps after which the game ends when whole classes are forgotten, 0 or more; well below all steps. null: never."""
    boost: float = 2.0
    """Factor on the learning rate until then, above 0."""
    augment: Augment | None = None
    """How retained images vary, and with whole classes forget and validation images too."""
    card: ClassVar[Card] = Card(
        does="Trains an attacker to tell forgotten examples from ones the network never saw, while the network learns to "
        "answer both alike and keeps its accuracy on the retained ones. What the attacker can no longer tell, it is hoped, "
        "others can't either. Forgetting whole classes, the game stops early and the rest is fine-tuning.",
        suits=("random", "class", "group"),
        cost="3 epochs of steps that cost 23 fine-tuning steps each, 30 with sensitivity.chunk below draws; before them the "
        "attacker's pre-training, 1,000 steps of 11 forward passes over 512 images, kept in a file for the next request",
        knobs={
            "optim.lr": "speed of forgetting; too large a rate costs accuracy",
            "beta": "forgetting against retained accuracy",
            "stop_after": "how much of a class is gone before fine-tuning heals the rest",
            "pretraining": "a better attacker from the start, at a price",
            "sensitivity.draws": "cost against a noisier view of the attacker; 2 to 4 are worth a try",
            "sensitivity.chunk": "memory against a third of the time",
        },
        layers="a last linear layer, whose inputs are the features",
        search={
            "optim.lr": Range(low=0.01, high=1.0, log=True),
            "beta": Range(low=0.1, high=10.0, log=True),
            "optim.epochs": Range(low=1, high=5),
        },
        more=("beta", "up"),
    )

    def __post_init__(self) -> None:
        for name in ("beta", "deceive", "correlation", "pretraining", "stop_after"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise Refusal(f"expected {name} to be 0 or more, got {value}; choose a larger one")
        for name in ("attacker_lr", "boost"):
            if not 0 < getattr(self, name) < math.inf:
                raise Refusal(f"expected {name} above 0, got {getattr(self, name)}; choose a larger one")
        if self.stored is not None and Path(self.stored).suffix != ".safetensors":
            raise Refusal(f"expected stored to end in .safetensors, got {self.stored}; name the file so")

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"retain", "validation"})

    def __call__(self, model: torch.nn.Module, split: Split, rng: torch.Generator, engine: Engine) -> torch.nn.Module:
        retain, validation = split.retain, split.validation
        assert retain is not None
        assert validation is not None
        for part, examples in (("retained", retain), ("forgotten", split.forget), ("validation", validation)):
            if not len(examples):
                raise Refusal(f"expected at least one {part} example for dau, got none; check the request and the data")
        new = copy.deepcopy(model)
        engine.place(new)
        whole = are_whole_classes(split)
        varied = self.augment if whole else None
        start, shuffle = draw_seed(rng), draw_seed(rng)
        with whole_fp32(engine.device):
            members = joined(retain, split.forget)
            attacker = self._attacker(new, members, validation, seed=start, engine=engine, whole=whole)
            del members  # a second copy of the training data
            adam = torch.optim.Adam(attacker.parameters(), lr=self.attacker_lr)
            game = Game(self, attacker, adam, split.task, engine, self.stop_after if whole else None)
            with engine.stage("dau"):
                fit(
                    new,
                    [Source(retain, self.augment)],
                    self.optim,
                    seed=shuffle,
                    engine=engine,
                    loss=game,
                    identity=repr(self),
                    alongside=[Source(split.forget, varied), Source(validation, varied)],
                    pace=game.pace,
                    carry={"attacker": attacker, "adam": adam},
                    label="dau",
                )
        return new

    def _attacker(
        self, model: torch.nn.Module, members: Examples, validation: Examples, *, seed: int, engine: Engine, whole: bool
    ) -> Attacker:
        from unteach.attacker import Practice, practised

        practice = Practice(
            iterations=self.pretraining,
            batch=self.optim.batch,
            lr=self.attacker_lr,
            # The network rests, so no activations are held, whatever the chunk.
            sensitivity=replace(self.sensitivity, chunk=self.sensitivity.draws),
            augment=self.augment if whole else None,
        )
        file = self.stored or (engine.scratch and engine.scratch / "dau-attacker.safetensors")
        return practised(practice, model, members, validation, seed=seed, engine=engine, file=file)


class Game:
    """The loss of a step, and the attacker's move before it."""

    def __init__(
        self, settings: Dau, attacker: Attacker, adam: torch.optim.Adam, task: Task, engine: Engine, stop: int | None
    ) -> None:
        self.settings = settings
        self.attacker, self.adam = attacker, adam
        self.task, self.engine = task, engine
        self.stop = stop
        self.over = False

    def pace(self, step: int) -> float:
        """Factor on the learning rate of this step; ``fit`` asks for it before the step's loss."""
        self.over = self.stop is not None and step >= self.stop
        return self.settings.boost if self.stop is not None and not self.over else 1.0

    def __call__(self, network: torch.nn.Module, batch: Batch) -> torch.Tensor:
        """Values whose sum over batch.size, three times the retain examples of the step, is the loss to descend."""
        retained = batch.part == 0
        rows = int(retained.sum())
        network.train(batch.size > 3)  # a pass of one example has no batch statistics
        # First, and the only pass through what several processes wrap around the network: they sum gradients all the same.
        values = 3 * self.task.loss(network(batch.inputs[retained]), batch.labels[retained])
        if self.over or not self.settings.beta:
            self.engine.meter.trained -= len(batch.labels) - rows  # which ``fit`` counts for the step
            return values
        with torch.autocast(batch.inputs.device.type, enabled=False):  # bf16 can't resolve what tiny noise changes
            return torch.cat((values, self._adversarial(unwrapped(network), batch, rows)))

    def _adversarial(self, network: torch.nn.Module, batch: Batch, rows: int) -> torch.Tensor:
        """β · (deceive · L_A + correlation · L_BT) as values of the forget and validation examples, ``2 · rows``."""
        from unteach.attacker import deceived, evidence, learn, truths

        told = self.settings
        (seen_f, z_f), (seen_v, z_v) = (
            evidence(
                network,
                batch.inputs[batch.part == part],
                batch.labels[batch.part == part],
                told.sensitivity,
                rows=batch.size // 3,
            )
            for part in (1, 2)
        )
        seen, truth = torch.cat((seen_f, seen_v)), truths(rows, batch.inputs.device)
        attacked = [] if batch.whole else [self.attacker]
        noisy = len(truth) * told.sensitivity.draws
        self.engine.meter.trained += noisy
        if told.sensitivity.chunk < told.sensitivity.draws:
            self.engine.meter.forwards += noisy
        with self.engine.together(*attacked):
            learn(self.attacker, self.adam, seen, truth, self.engine)
            # These rows are two thirds of batch.size.
            misled = told.deceive * deceived(self.attacker, seen, truth)
        return 1.5 * told.beta * (misled + told.correlation * correlation_loss(z_f, z_v))


def correlation_loss(forget: torch.Tensor, validation: torch.Tensor) -> torch.Tensor:
    """L_BT = Σ_i (C_ii − 1)² + 0.005 · Σ_{i≠j} C_ij², C (d × d) the correlations of features ``B × d`` paired by row.

    Features are standardised over the batch (variance over B, plus 1e-5, for some features are dead). 0 for one pair, which
    has no correlations.
    """
    if len(forget) < 2:
        return forget.new_zeros(())
    z_f, z_v = ((z - z.mean(0)) * (z.var(0, unbiased=False) + 1e-5).rsqrt() for z in (forget, validation))
    correlations = z_v.T @ z_f / len(forget)
    diagonal = correlations.diagonal()
    off = correlations.square().sum() - diagonal.square().sum()
    return (diagonal - 1).square().sum() + 5e-3 * off


def are_whole_classes(split: Split) -> bool:
    """Whether no retained example has a label of a forgotten one."""
    assert split.retain is not None
    single = not isinstance(split.task, MultiLabel)
    return single and not bool(torch.isin(split.retain.labels, split.forget.labels).any())


def joined(retain: Examples, forget: Examples) -> Examples:
    """All training examples."""
    return replace(
        retain,
        inputs=torch.cat((retain.inputs, forget.inputs)),
        labels=torch.cat((retain.labels, forget.labels)),
        ids=np.concatenate((retain.ids, forget.ids)),
        groups=None,
    )
