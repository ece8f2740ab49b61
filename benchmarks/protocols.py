"""What is compared: data, network, recipe, request and methods of every table in RESULTS.md that ``erasure.py`` makes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from unteach.attacks import Schedule
from unteach.data.augment import Augment
from unteach.methods import Amun, Aru, FineTune, GradientAscent, NegGradPlus, RandomLabel, Trw
from unteach.recipe import Recipe
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
        "neggrad-plus": NegGradPlus(optim=sgd(0.2), augment=augment),
        "random-label": RandomLabel(optim=sgd(1.0), augment=augment),
        "amun": Amun(optim=sgd(1.0), augment=augment),
        "amun-adv-only": Amun(optim=sgd(0.5), use_forget=False, augment=augment),
        "amun-adv-only-schedule": Amun(optim=sgd(0.5), use_forget=False, attack=Schedule(), augment=augment),
        "amun-forget-only": Amun(optim=sgd(0.1), use_retain=False, augment=augment),
    }


def aru_readings(epochs: int, batch: int, augment: Augment | None = None) -> dict[str, Method]:
    """ARU in every reading of its text: which half is reset, by which noise, and to what."""
    optim = Sgd(lr=0.01, epochs=epochs, batch=batch, schedule=f"step:{max(1, epochs // 2)}", weight_decay=0.0)
    aru = Aru(optim=optim, augment=augment)
    random_noise = replace(aru.attack, steps=0)
    return {
        "finetune, same repair": FineTune(optim=optim, augment=augment),
        "aru smallest": aru,
        "aru largest": replace(aru, which="largest"),
        "aru random half": replace(aru, which="random"),
        "aru smallest, ascent": replace(aru, attack=replace(aru.attack, descend=False)),
        "aru smallest, random noise": replace(aru, attack=random_noise),
        "aru largest, random noise": replace(aru, which="largest", attack=random_noise),
        "aru smallest, fresh": replace(aru, reset="fresh"),
    }


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


FASHION_CLASSES = (0, 4, 7)  # T-shirt/top, coat, sneaker: with one near neighbour, two, and one

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
    methods={
        name: method
        for name, method in methods(5, augment=Augment(crop=4, flip=True)).items()
        if name in ("finetune", "amun", "amun-adv-only")
    },
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
    # AMUN's own recipe; needs a GPU (200 epochs of ResNet-18, resumable epoch by epoch).
    "cifar-resnet18-random10": replace(
        CIFAR,
        model="resnet18-amun",
        recipe=Recipe(optim=Sgd(lr=0.1, epochs=200, batch=128, schedule="step:40"), augment=Augment(crop=4, flip=True)),
        seeds=(0, 1, 2),
        references=3,
        methods=methods(10, augment=Augment(crop=4, flip=True)),
    ),
    "faces-person": FACES,
    "faces-aru": replace(FACES, methods=aru_readings(15, batch=32)),
    **{
        f"fashion-class{number}": replace(FASHION, ids=f"class:{number}", methods=class_methods(3))
        for number in FASHION_CLASSES
    },
}
