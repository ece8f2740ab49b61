"""The protocols by name, each in several profiles: on the embedded digits, on a laptop, on a GPU, as in the paper."""

from __future__ import annotations

from dataclasses import replace

from unteach.bench.people import PEOPLE
from unteach.bench.protocol import Protocol
from unteach.bench.rows import AMUN, AMUN_FORGET_ONLY, CLASS, FEW, SMOOTH, aru_readings, dau_methods, named
from unteach.data.augment import Augment
from unteach.prune import Prune
from unteach.recipe import Recipe
from unteach.spectral import Clip
from unteach.trades import Trades
from unteach.train import Sgd

CROPS = Augment(crop=4, flip=True)

CI = Protocol(
    data="digits",
    model="small-cnn",
    recipe=Recipe(optim=Sgd(lr=0.1, epochs=6, batch=32, schedule="onecycle")),
    requests=("random:0.1",),
    rows=named(*FEW),
    seeds=(0,),
    retrained=2,
)
# Without augmentation, so that a network trained for minutes memorises: there is nothing to forget otherwise.
LAPTOP = Protocol(
    data="cifar10",
    model="airbench-small",
    recipe=Recipe(optim=Sgd(lr=0.2, epochs=12, batch=64, schedule="onecycle:0.25", nesterov=True)),
    requests=("random:0.1",),
    rows=named(*AMUN, *AMUN_FORGET_ONLY),
    count=10_000,
    halves=8,
)
# AMUN's own training: ResNet-18, 200 epochs, × 0.1 every 40, crops and mirror images.
GPU = Protocol(
    data="cifar10",
    model="resnet18-amun",
    recipe=Recipe(optim=Sgd(lr=0.1, epochs=200, batch=128, schedule="step:40"), augment=CROPS),
    requests=("random:0.1",),
    rows=named(*AMUN, *AMUN_FORGET_ONLY),
    halves=16,
)
PAPER = replace(GPU, draws=3, runs=3, halves=128)
FASHION = replace(
    LAPTOP,
    data="fashion-mnist",
    model="small-cnn",
    recipe=Recipe(optim=Sgd(lr=0.1, epochs=12, batch=64, schedule="onecycle")),
)


def _profiles(title: str, about: str, changes: dict[str, dict[str, object]]) -> dict[str, Protocol]:
    """One comparison in the profiles named in ``changes``, each the usual one of its name with these changes."""
    usual = {"ci": CI, "laptop": LAPTOP, "gpu": GPU, "paper": PAPER}
    return {
        name: replace(usual[name], title=title if name != "ci" else f"{title}, tried on digits", about=about, **change)  # type: ignore[arg-type]
        for name, change in changes.items()
    }


def _as(**change: object) -> dict[str, dict[str, object]]:
    """The same change in every profile."""
    return {name: dict(change) for name in ("ci", "laptop", "gpu", "paper")}


def _random(share: str) -> dict[str, Protocol]:
    return _profiles(
        f"CIFAR-10, random {share}",
        "AMUN's main comparison (arXiv 2503.00917, tables 1 and 2): every method with access to the retained data where "
        "it can use them, and on the forget set alone.",
        _as(requests=(f"random:{share}",)),
    )


CLASSES = {"ci": ("class:3",), "laptop": ("class:cat", "class:dog", "class:ship")}
PROTOCOLS: dict[str, dict[str, Protocol]] = {
    "cifar10-random10": _random("0.1"),
    "cifar10-random50": _random("0.5"),
    "cifar10-class": _profiles(
        "CIFAR-10, a whole class",
        "Class unlearning as in TRW: where the forgotten class's test images go, beside retraining.",
        {
            "ci": {"requests": CLASSES["ci"], "rows": named("finetune", "trw", "unsir")},
            **{
                name: {"requests": CLASSES["laptop"], "rows": named(*CLASS), "draws": 1}
                for name in ("laptop", "gpu", "paper")
            },
        },
    ),
    "cifar10-sequential": _profiles(
        "CIFAR-10, five requests of 2 %",
        "AMUN's experiment with subsequent requests: the current one, the earlier ones, and utility, after each.",
        {
            "ci": {"requests": ("random:0.02",), "steps": 3},
            **{
                name: {"requests": ("random:0.02",), "steps": 5, "rows": named(*AMUN)}
                for name in ("laptop", "gpu", "paper")
            },
        },
    ),
    "cifar10-strata": _profiles(
        "CIFAR-10, by memorisation",
        "Forget sets of low, middle, high and mixed memorisation (RUM, arXiv 2406.01257) and one of images alike, "
        "beside a random one of their size: uniformly random sets are nearly degenerate.",
        {
            "ci": {"requests": ("random:60", "stratum:high:60", "alike:30"), "halves": 4},
            "laptop": {
                "requests": (
                    "random:600",
                    "stratum:low:600",
                    "stratum:middle:600",
                    "stratum:high:600",
                    "stratum:mixed:600",
                    "alike:300",
                ),
                "halves": 16,
            },
            **{
                name: {
                    "requests": (
                        "random:3000",
                        "stratum:low:3000",
                        "stratum:middle:3000",
                        "stratum:high:3000",
                        "stratum:mixed:3000",
                        "alike:1000",
                    ),
                    "halves": 64,
                }
                for name in ("gpu", "paper")
            },
        },
    ),
    "fashion-random10": {
        "laptop": replace(FASHION, title="Fashion-MNIST, random 10 %"),
    },
    "fashion-class": {
        "laptop": replace(
            FASHION,
            requests=("class:0", "class:4", "class:7"),
            rows=named(*CLASS),
            title="Fashion-MNIST, a whole class",
        ),
    },
    "cifar20-subclass": _profiles(
        "CIFAR-20, one subclass",
        "A fine class of CIFAR-100 under coarse labels: retraining still answers with the superclass, and that is the target.",
        {
            name: {
                "data": "cifar20",
                "requests": ("group:rocket", "group:mushroom", "group:baby"),
                "rows": named("finetune", "random-label", "salun", "scrub", "ssd", "bad-teacher", "amun"),
            }
            for name in ("laptop", "gpu", "paper")
        },
    ),
    "cifar100-random10": _profiles(
        "CIFAR-100, random 10 %",
        "As CIFAR-10, with a hundred classes.",
        {name: {"data": "cifar100"} for name in ("laptop", "gpu", "paper")},
    ),
    "tiny-imagenet-random10": _profiles(
        "Tiny-ImageNet, random 10 %",
        "AMUN's comparison with VGG-19.",
        {
            name: {
                "data": "tiny-imagenet",
                "model": "vgg19-bn",
                "recipe": Recipe(optim=Sgd(lr=0.1, epochs=100, batch=128, schedule="cosine"), augment=CROPS),
            }
            for name in ("gpu", "paper")
        },
    ),
}
for _name, _change, _words in (
    ("smooth", {"clip": Clip()}, "clipped to spectral norm 1 (FastClip, arXiv 2402.16017)"),
    ("robust", {"trades": Trades()}, "adversarially trained (TRADES)"),
    ("sparse", {"prune": Prune(share=0.95, rewind=1)}, "pruned to a twentieth of its weights (arXiv 2304.04934)"),
):
    PROTOCOLS[f"cifar10-{_name}"] = {
        profile: replace(
            base,
            recipe=replace(base.recipe, **_change),
            rows=named(*SMOOTH) if profile != "ci" else named("finetune", "amun-adv-only"),
            title=f"CIFAR-10, random 10 %, {_name}",
            about=f"The original is {_words}, and so are retrained models.",
        )
        for profile, base in (("ci", CI), ("laptop", LAPTOP), ("gpu", GPU))
    }

PROTOCOLS |= PEOPLE
PROTOCOLS["cifar10-aru"] = {
    profile: replace(
        base,
        rows=aru_readings(epochs, 64, base.recipe.augment),
        title="CIFAR-10, random 10 %, ARU in all its readings",
        about="Which half is reset, by which noise and to what: the text and the code of ARU (arXiv 2401.08998) differ.",
    )
    for profile, base, epochs in (("laptop", LAPTOP, 3), ("gpu", GPU, 10))
}
_DAU_GPU = replace(
    GPU, recipe=Recipe(optim=Sgd(lr=0.1, epochs=182, batch=256, schedule="multistep:91,136"), augment=CROPS)
)
for _name, _share in (("dau", 0.0), ("dau-sparse", 0.95)):
    PROTOCOLS[f"cifar10-{_name}"] = {
        profile: replace(
            base,
            recipe=replace(base.recipe, prune=Prune(share=_share, rewind=rewind) if _share else None),
            rows=dau_methods(draws=draws, pretraining=steps, augment=base.recipe.augment),
            validation="random:0.1",
            title=f"CIFAR-10, random 10 %, DAU{' on networks with a twentieth of their weights' if _share else ''}",
            about="DAU beside fine-tuning of the same steps; what its attacker learns from is held out of training.",
        )
        for profile, base, draws, steps, rewind in (("laptop", LAPTOP, 2, 300, 1), ("gpu", _DAU_GPU, 10, 1000, 8))
    }


def protocol_named(name: str, profile: str) -> Protocol:
    """The protocol of this name in this profile; left out, the least demanding one. Raises: Refusal for unknown ones."""
    from unteach.types import Refusal

    if name not in PROTOCOLS:
        raise Refusal(f"expected a protocol ({', '.join(PROTOCOLS)}), got {name!r}; choose one of these")
    known = PROTOCOLS[name]
    chosen = profile or next(one for one in ("laptop", "gpu", "ci", "paper") if one in known)
    if chosen not in known:
        raise Refusal(f"expected a profile of {name} ({', '.join(known)}), got {profile!r}; choose one of these")
    return known[chosen]
