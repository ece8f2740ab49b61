"""Protocols on faces: the request is people, the task is something else about them."""

from __future__ import annotations

from dataclasses import replace

from unteach.bench.protocol import Protocol
from unteach.bench.rows import MUFAC, mufac_published, named, with_constant
from unteach.data.augment import Augment
from unteach.recipe import Recipe
from unteach.train import Sgd

FACES = Augment(flip=True, shear=10, zoom=0.2, brightness=0.2, contrast=0.2, saturation=0.2)
MUFAC_RECIPE = Recipe(
    optim=Sgd(lr=0.01, epochs=30, batch=64, weight_decay=0.0, schedule="step:10"),
    augment=FACES,
)
# The benchmark's own training leaves the original and the retrained model on different terms; this one is stronger.
MUFAC_STRONGER = Recipe(optim=Sgd(lr=0.05, epochs=60, batch=64, schedule="onecycle"), augment=FACES)
IDENTITY = Protocol(
    data="mufac:identity",
    model="resnet18-face",
    recipe=MUFAC_STRONGER,
    requests=("benchmark",),
    rows=with_constant(named(*MUFAC)),
    retrained=5,
    halves=16,
    nomus=True,
    title="MUFAC, whole identities",
    about="Age of faces; the request is whole people, near-duplicates are removed, original and retrained models share "
    "one recipe.",
)
PEOPLE: dict[str, dict[str, Protocol]] = {
    "faces": {
        "laptop": Protocol(
            data="cmu-faces:size=32",
            task="pose",
            model="small-cnn",
            recipe=Recipe(optim=Sgd(lr=0.05, epochs=30, batch=32, schedule="onecycle")),
            requests=("group:an2i,at33", "group:boland,bpm", "group:ch4f,cheyer"),
            rows=with_constant(named(*MUFAC)),
            retrained=5,
            halves=16,
            nomus=True,
            title="CMU faces by MUFAC's protocol",
            about="Pose of the head; the request is two of sixteen people, non-members are four unseen ones. MUFAC "
            "itself can't be redistributed: this is its comparison on faces that can.",
        ),
    },
    "faces-attributes": {
        "laptop": Protocol(
            data="cmu-faces:size=32",
            task="all",
            model="small-cnn",
            recipe=Recipe(optim=Sgd(lr=0.05, epochs=30, batch=32, schedule="onecycle")),
            requests=("group:an2i,at33", "group:boland,bpm", "group:ch4f,cheyer"),
            rows=with_constant(named("finetune", "cf-k", "gradient-ascent", "neggrad-plus", "scrub", "aru", "amun")),
            retrained=5,
            nomus=True,
            title="CMU faces, nine attributes",
            about="As MUCAC: several yes-or-no labels an image, most of them mostly no. NoMUS pays a constant answer for that.",
        ),
    },
    "mufac": {"gpu": IDENTITY, "paper": replace(IDENTITY, seeds=(0, 1, 2, 3, 4), runs=3)},
    "mufac-published": {
        "gpu": replace(
            IDENTITY,
            data="mufac:original",
            recipe=MUFAC_RECIPE,
            rows=with_constant(mufac_published(FACES)),
            title="MUFAC as published",
            about="The benchmark's own split, recipe and settings (arXiv 2311.02240): for comparison with its table, "
            "whose original and retrained model do not share a recipe.",
        ),
    },
    "mucac": {
        "gpu": replace(
            IDENTITY,
            data="mucac",
            task="multilabel",
            recipe=Recipe(optim=Sgd(lr=0.01, epochs=8, batch=64, schedule="onecycle"), augment=FACES),
            rows=with_constant(named("finetune", "cf-k", "gradient-ascent", "neggrad-plus", "scrub", "aru", "amun")),
            title="MUCAC, three attributes",
            about="Gender, smile and age of CelebA-HQ's faces; the request is 1,060 identities (arXiv 2311.02240).",
        ),
    },
}
