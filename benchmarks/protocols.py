"""What is compared: data, network, recipe, request and methods of every table in RESULTS.md that ``erasure.py`` makes."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from unteach.attacks import Schedule
from unteach.bench.rows import aru_readings, dau_methods
from unteach.data import DataSet
from unteach.data.augment import Augment
from unteach.data.subset import few
from unteach.knobs import is_rate, turned
from unteach.methods import METHODS, Amun, FineTune, GradientAscent, NegGradPlus, RandomLabel, Trw
from unteach.methods.amun import NEIGHBOURS
from unteach.prune import Prune
from unteach.recipe import Recipe
from unteach.spectral import Clip
from unteach.trades import Trades
from unteach.train import Sgd
from unteach.types import Method


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Data, network, recipe, request and the methods to compare."""

    data: str
    model: str
    recipe: Recipe
    ids: str
    request_seed: int = 0
    task: str | None = None
    seeds: tuple[int, ...] = (0, 1, 2)
    references: int = 0  # retrained models; 0 for as many as seeds
    count: int = 0  # training examples, drawn as the sweeps draw them; 0 for all
    validation: str = ""  # ids that no model is trained on, drawn with seed 0
    methods: dict[str, Method] = field(default_factory=dict)


def methods(epochs: int, batch: int = 128, augment: Augment | None = None, rate: float = 0.1) -> dict[str, Method]:
    """One row for each method, all with the same number of epochs over the retain set.

    ``rate``: the original's learning rate, which the methods' rates are shares of. The shares were chosen on Fashion-MNIST,
    training seed 0, on a forget set drawn separately, a tenth of which is in the reported one too (RESULTS.md lists what was
    tried).
    """

    def sgd(share: float, schedule: str = "cosine") -> Sgd:
        return Sgd(lr=share * rate, epochs=epochs, batch=batch, schedule=schedule)

    up = Sgd(lr=0.003 * rate, epochs=epochs, batch=batch, schedule="constant", weight_decay=0.0)
    return {
        "finetune": FineTune(optim=sgd(2.0), augment=augment),
        "gradient-ascent": GradientAscent(optim=up),
        "gradient-ascent-strong": GradientAscent(optim=replace(up, lr=10 * up.lr)),
        "neggrad-plus": NegGradPlus(optim=sgd(0.2), augment=augment),
        "random-label": RandomLabel(optim=sgd(1.0), augment=augment),
        "amun": Amun(optim=sgd(1.0), augment=augment),
        "amun-adv-only": Amun(optim=sgd(0.5), use_forget=False, augment=augment),
        "amun-adv-only-schedule": Amun(optim=sgd(0.5), use_forget=False, attack=Schedule(), augment=augment),
        "amun-forget-only": Amun(optim=sgd(0.1), use_retain=False, augment=augment),
    }


def some(every: dict[str, Method], *names: str) -> dict[str, Method]:
    """These rows only."""
    return {name: every[name] for name in names}


def class_methods(epochs: int, augment: Augment | None = None) -> dict[str, Method]:
    """Forgetting a class: TRW beside what it is compared with, all with the same epochs over the retain set."""
    optim = Sgd(lr=0.01, epochs=epochs, batch=128)
    trw = Trw(optim=optim, augment=augment)
    return {
        "finetune": FineTune(optim=replace(optim, lr=0.05), augment=augment),
        "random-label": RandomLabel(optim=optim, augment=augment),
        "rwft": replace(trw, beta=0.0),
        "trw beta 1": replace(trw, beta=1.0),
        "trw": trw,
    }


def amun_sets(epochs: int) -> dict[str, Method]:
    """AMUN's Figure 1: what stands for the adversarial examples, beside all data, the forget set, or nothing."""
    optim = Sgd(lr=0.01, epochs=epochs, batch=128, schedule="step:5")
    panels = {"D": (True, True), "D_F": (False, True), "alone": (False, False)}
    return {
        f"{kind} + {panel}": Amun(
            optim=optim if panel != "D" else replace(optim, epochs=5, schedule="step:2"),
            use_retain=retain,
            use_forget=forget,
            neighbours=kind,
        )
        for panel, (retain, forget) in panels.items()
        for kind in NEIGHBOURS
    }


SWEEPS = Path(__file__).parent / "sweeps"


def some_of(data: DataSet, count: int) -> DataSet:
    """The data with so many training examples, always the same ones."""
    return replace(few(data, count), augment=None)


def best_point(runs: list[tuple[list[dict[str, Any]], float]]) -> tuple[int, float]:
    """The point whose scores are lowest beside doing nothing, over runs (rows by point, score of doing nothing).

    Returns it with its mean score. Each run weighs alike: its scores are taken as shares of that of doing nothing. A run that
    failed counts as twice as bad as nothing.
    """
    points = min(len(rows) for rows, _ in runs)
    scores = [
        [2 * nothing if rows[n]["score"] is None else rows[n]["score"] for rows, nothing in runs] for n in range(points)
    ]
    shares = [statistics.fmean(score / nothing for score, (_, nothing) in zip(each, runs)) for each in scores]
    at = min(range(points), key=lambda n: (shares[n], n))
    return at, statistics.fmean(scores[at])


def tuned(scene: str, peak: float) -> dict[str, Method]:
    """Every method with its best settings of a sweep, each of as many settings and as much cost as any other."""
    file = SWEEPS / f"{scene}.json"
    told = json.loads(file.read_text()) if file.is_file() else {"methods": {}}
    found: dict[str, Method] = {}
    for name, seeds in told["methods"].items():
        runs = [(rows, told["unchanged"][seed]) for seed, rows in seeds.items() if rows and "refused" not in rows[0]]
        if runs:
            knobs = runs[0][0][best_point(runs)[0]]["knobs"]
            knobs = {path: value * peak if is_rate(path) else value for path, value in knobs.items()}
            found[name] = turned(METHODS[name](), knobs)
    return found


FASHION_CLASSES = (0, 4, 7)  # T-shirt/top, coat, sneaker: with one near neighbour, two, and one
CIFAR_CLASSES = (3, 5, 8)  # cat, dog, ship
CIFAR_READINGS = (
    "finetune, same repair",
    "aru smallest",
    "aru largest",
    "aru random half",
    "aru smallest, random noise",
    "aru largest, random noise",
)

FASHION = Protocol(
    data="fashion-mnist",
    model="small-cnn",
    recipe=Recipe(optim=Sgd(lr=0.1, epochs=12, batch=128, schedule="onecycle"), augment=None),
    ids="random:0.1",
    methods=methods(4),
)
CIFAR = Protocol(
    data="cifar10",
    model="airbench-small",
    recipe=Recipe(
        optim=Sgd(lr=0.2, epochs=12, batch=128, schedule="onecycle:0.25", nesterov=True),
        augment=Augment(crop=4, flip=True),
    ),
    ids="random:0.1",
    seeds=(0,),
    references=2,
    methods=some(methods(5, augment=Augment(crop=4, flip=True)), "finetune", "amun", "amun-adv-only"),
)
FACES = Protocol(
    data="cmu-faces:size=64",
    task="pose",
    model="small-cnn",
    recipe=Recipe(optim=Sgd(lr=0.05, epochs=30, batch=32, schedule="onecycle"), augment=None),
    ids="group:an2i",
    seeds=(0, 1, 2, 3, 4),
    methods=methods(5, batch=32, rate=0.05),
)
PROTOCOLS = {
    "fashion-random10": FASHION,
    "fashion-random100": replace(FASHION, ids="random:100", methods=methods(2)),
    "fashion-augmented-random10": replace(
        FASHION,
        recipe=Recipe(optim=Sgd(lr=0.1, epochs=8, batch=128, schedule="onecycle"), augment=Augment(crop=2, flip=True)),
        seeds=(0,),
        references=2,
        methods=methods(2, augment=Augment(crop=2, flip=True)),
    ),
    "cifar-random10": CIFAR,
    "faces-person": FACES,
    "fashion-amun-sets": replace(FASHION, methods=amun_sets(20)),
    "fashion-smooth": replace(
        FASHION,
        recipe=replace(FASHION.recipe, clip=Clip()),
        methods=some(methods(4), "finetune", "amun", "amun-adv-only"),
    ),
    "fashion-robust": replace(
        FASHION,
        recipe=replace(FASHION.recipe, trades=Trades(epsilon=0.1, step=0.04, steps=4)),
        seeds=(0,),
        references=2,
        methods=some(methods(4), "finetune", "amun", "amun-adv-only"),
    ),
    **{
        f"fashion-dau-{request}{'-sparse' if prune else ''}": replace(
            FASHION,
            ids=ids,
            validation="random:0.1",
            recipe=replace(FASHION.recipe, prune=prune),
            methods=dau_methods(draws=2, pretraining=300),
        )
        for request, ids in (("random10", "random:0.1"), ("class4", "class:4"))
        for prune in (None, Prune(share=0.95, rewind=1))
    },
    # Without augmentation the network fits its training set, so that there is something to forget.
    "cifar-aru": replace(
        CIFAR,
        recipe=Recipe(optim=replace(CIFAR.recipe.optim, epochs=8), augment=None),
        seeds=(0, 1, 2),
        references=3,
        methods=some(aru_readings(3, 64), *CIFAR_READINGS)
        | some(methods(3, rate=0.2), "gradient-ascent", "gradient-ascent-strong"),
    ),
    **{
        f"cifar-class{number}": replace(
            CIFAR,
            recipe=replace(CIFAR.recipe, optim=replace(CIFAR.recipe.optim, epochs=6)),
            seeds=(0, 1, 2),
            references=3,
            ids=f"class:{number}",
            methods=class_methods(2, CIFAR.recipe.augment),
        )
        for number in CIFAR_CLASSES
    },
    "faces-aru": replace(FACES, methods=aru_readings(15, batch=32)),
    **{
        f"fashion-class{number}": replace(FASHION, ids=f"class:{number}", methods=class_methods(3))
        for number in FASHION_CLASSES
    },
}
# The whole field under one budget: tuned by sweep.py on one request, reported on another.
SMALL = replace(
    FASHION,
    recipe=Recipe(optim=Sgd(lr=0.1, epochs=12, batch=64, schedule="onecycle"), augment=None),
    count=5000,
    request_seed=50,
    references=3,
    validation="random:0.15",
)
PROTOCOLS |= {
    "field-fashion-random": replace(SMALL, methods=tuned("fashion-random-many", 0.1)),
    "field-fashion-class": replace(SMALL, ids="class:7", methods=tuned("fashion-class", 0.1)),
    "field-faces-group": replace(
        FACES,
        data="cmu-faces:size=32",
        recipe=Recipe(optim=Sgd(lr=0.05, epochs=30, batch=32, schedule="onecycle"), augment=None),
        ids="group:glickman",
        seeds=(0, 1, 2),
        references=3,
        validation="random:0.15",
        methods=tuned("faces-group", 0.05),
    ),
    "field-cifar-random": replace(
        SMALL,
        data="cifar10",
        model="airbench-small",
        recipe=Recipe(optim=Sgd(lr=0.2, epochs=12, batch=64, schedule="onecycle:0.25", nesterov=True), augment=None),
        methods=tuned("cifar-random-many", 0.2),
    ),
}
