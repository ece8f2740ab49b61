"""Pieces of ``gpu.py``: scores, the search for the nearest adversarial example, AMUN beside retraining."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial

import torch

from adversaries import Method, amun_loop, by_radius, own
from gpu_notebook import Notebook, Rig, Row
from gpu_training import AUGMENT
from unteach.attacks import Nearest, Schedule
from unteach.attacks.probe import Probe
from unteach.data import forget_ids, split
from unteach.methods import Amun
from unteach.train import Sgd, Source, fit

PEER_STEPS, PEER_STEP = 50, 0.1


@lru_cache(maxsize=2)
def _trained(rig: Rig, net: str) -> tuple[torch.nn.Module, float]:
    """A network that has learned the images in a few epochs, and the seconds that took without the first."""
    model, count = rig.network(net), rig.size(50_000, 256)
    optim = Sgd(lr=0.2, epochs=rig.size(8, 2), batch=rig.size(512, 32), nesterov=True, schedule="onecycle:0.25")
    told = fit(model, [Source(rig.examples(count), AUGMENT)], optim, seed=0, engine=rig.engine())
    later = [record["seconds"] for record in told[1:]]
    return model.eval(), sum(later) * len(told) / len(later)


def scoring(rig: Rig, book: Notebook) -> None:
    """Images a second through ``Engine.logits``, exact and in bf16, by batch."""
    model, engine = rig.network("small-cnn" if rig.small else "airbench"), rig.engine("bf16")
    images = rig.examples(rig.size(50_000, 64)).inputs

    def reading(batch: int, exact: bool) -> Row:
        taken = rig.seconds(lambda: engine.logits(model, images, batch=batch, exact=exact), warm=1)
        return {"images/s": len(images) / taken}

    for batch in (256, 2048) if not rig.small else (32,):
        for exact in (True, False):
            book.tried("scoring", f"{'exact' if exact else 'bf16'} batch {batch}", partial(reading, batch, exact))


def attacks(rig: Rig, book: Notebook) -> None:
    """ms a sample of ours by batch (512 is what users get), and of AMUN's loop and torchattacks on 512 of the same images."""
    model, _ = _trained(rig, "small-cnn" if rig.small else "airbench-small")
    searches = {"nearest": Nearest(bf16=True), "schedule": Schedule(bf16=True)}
    for batch in (512, 128, 2048, 4096) if not rig.small else (16,):
        for name, search in searches.items() if batch in (512, 16) else [("nearest", searches["nearest"])]:
            count = rig.size(4096 if name == "nearest" else 512, 16)
            with _micro_batches(batch):
                book.tried("attacks", f"{name} batch {batch}", partial(_attack, rig, model, own(search), count))
    plain = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for name, method in _peers(plain, book).items():
        book.tried("attacks", name, partial(_attack, rig, plain, method, rig.size(512, 8)), rig.size(15, 3))


def _attack(rig: Rig, model: torch.nn.Module, method: Method, count: int) -> Row:
    some = rig.examples(count)
    x, y = some.inputs.float().div(255).to(rig.device), some.labels.to(rig.device)
    method(model, x[: min(32, count)], y[: min(32, count)])  # kernels are chosen in the first call
    rig.wait()
    start = time.perf_counter()
    made, gradients, _ = method(model, x, y)
    rig.wait()
    taken = time.perf_counter() - start
    made = made.to(rig.device)
    with torch.no_grad():
        fooled = torch.cat([model(part).argmax(1) for part in made.split(256)]) != y
    far = (made - x).flatten(1).norm(dim=1)[fooled]
    return {
        "ms/sample": 1000 * taken / count,
        "gradients": gradients / count,
        "success": float(fooled.float().mean()),
        "median L2": float(far.median()) if len(far) else 0.0,
    }


def _peers(model: torch.nn.Module, book: Notebook) -> dict[str, Method]:
    found: dict[str, Method] = {"AMUN's loop": amun_loop}
    try:
        import torchattacks
    except Exception as error:  # its import pulls in whatever torchvision is there
        book.notes.append(f"attacks: torchattacks left out: {type(error).__name__}: {error}")
        return found
    peer = torchattacks.PGDL2(model, steps=PEER_STEPS, random_start=False)

    def run(x: torch.Tensor, y: torch.Tensor, epsilon: float) -> torch.Tensor:
        peer.eps, peer.alpha = epsilon, PEER_STEP * epsilon
        points: torch.Tensor = peer(x, y)
        return points

    return found | {"torchattacks": by_radius(run)}


@contextmanager
def _micro_batches(size: int) -> Iterator[None]:
    """Inside, searches take so many examples at a time; otherwise the device decides."""
    usual = Probe.__init__

    def chosen(self: Probe, *given: object) -> None:
        usual(self, *given)  # type: ignore[arg-type]
        self.batch = size

    Probe.__init__ = chosen  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        Probe.__init__ = usual  # type: ignore[method-assign]


def amun(rig: Rig, book: Notebook) -> None:
    """AMUN from the request to the new network, as a share of training as long as the original was; 1,000 examples of all."""
    net, epochs, count, tuned = (
        "small-cnn" if rig.small else "airbench",
        rig.size(8, 2),
        rig.size(1000, 8),
        rig.size(2, 1),
    )

    def reading() -> Row:
        model, retraining = _trained(rig, net)
        train = rig.examples(rig.size(50_000, 256))
        asked = split(train, forget_ids(f"random:{count}", train, 0))
        method = Amun(optim=Sgd(lr=0.05, epochs=tuned, batch=rig.size(512, 32)), augment=AUGMENT)
        start = time.perf_counter()
        method(model, asked, torch.Generator().manual_seed(0), rig.engine())
        rig.wait()
        taken = time.perf_counter() - start
        return {"seconds": taken, "retraining s": retraining, "of retraining": taken / retraining}

    book.tried("amun", f"{net}, {epochs} epochs; request of {count}, fine-tuned {tuned}", reading, rig.size(20, 3))
