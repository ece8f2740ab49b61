"""The ways of finding the nearest adversarial example that ``attack.py`` compares.

- ``amun-loop``: a literal reading of AMUN's loop, written here: eager, NCHW, fp32, one forward and gradient per step;
- ``torchattacks`` PGDL2 and ``foolbox`` L2PGD, called once per radius on the images not flipped yet;
- ``ddn``: foolbox' DDN with 300 steps, as the reference for distances: the nearest that is known, at whatever cost;
- ours: ``Schedule``, which is AMUN's rule, and ``Nearest``, each in fp32 and in bf16.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from unteach.attacks import Nearest, Schedule
from unteach.precision import has_fast_bf16

EPSILON, STEPS, STEP, DOUBLINGS = 0.04, 50, 0.1, 12
DDN_STEPS = 300
Attacked = tuple[torch.Tensor, int, int]  # adversarial inputs, gradients, forwards
Method = Callable[[torch.nn.Module, torch.Tensor, torch.Tensor], Attacked]


def amun_loop(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Attacked:
    """AMUN's loop as published: test, step, drop what flipped; every radius goes on from where the last one ended."""
    points, out, live = x.clone(), x.clone(), torch.arange(len(x), device=x.device)
    epsilon, gradients = EPSILON, 0
    for _ in range(DOUBLINGS + 1):
        for _ in range(STEPS):
            at = points[live].clone().requires_grad_()
            logits = model(at)
            loss = torch.nn.functional.cross_entropy(logits, y[live])
            (gradient,) = torch.autograd.grad(loss, at)
            gradients += len(live)
            flipped = logits.argmax(1) != y[live]
            out[live[flipped]] = points[live[flipped]]
            live, gradient = live[~flipped], gradient[~flipped]
            if len(live) == 0:
                return out, gradients, 0
            length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            offset = points[live] + STEP * epsilon * gradient / length - x[live]
            size = offset.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
            points[live] = (x[live] + offset * (epsilon / size).clamp_max(1)).clamp(0, 1)
        epsilon *= 2
    out[live] = points[live]
    return out, gradients, 0


def by_radius(attack: Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]) -> Method:
    """A library's fixed-radius attack inside AMUN's loop over radii."""

    def method(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Attacked:
        out, gradients, forwards, epsilon = x.clone(), 0, len(x), EPSILON
        with torch.no_grad():
            live = (model(x).argmax(1) == y).nonzero().squeeze(1)
        while len(live) and epsilon <= EPSILON * 2**DOUBLINGS:
            points = attack(x[live], y[live], epsilon).detach()
            gradients += STEPS * len(live)
            with torch.no_grad():
                flipped = model(points).argmax(1) != y[live]
            forwards += len(live)
            out[live[flipped]] = points[flipped]
            live = live[~flipped]
            epsilon *= 2
        return out, gradients, forwards

    return method


def methods(model: torch.nn.Module, notes: list[str]) -> dict[str, Method]:
    """All that can be had here; of a library that is not, a note is made."""
    table: dict[str, Method] = {"amun-loop": amun_loop}
    try:
        import torchattacks

        peer = torchattacks.PGDL2(model, steps=STEPS, random_start=False)

        def run(x: torch.Tensor, y: torch.Tensor, epsilon: float) -> torch.Tensor:
            peer.eps, peer.alpha = epsilon, STEP * epsilon
            points: torch.Tensor = peer(x, y)
            return points

        table["torchattacks"] = by_radius(run)
    except Exception as error:  # its import pulls in whatever torchvision is there
        notes.append(f"torchattacks left out: {type(error).__name__}: {error}")
    try:
        import foolbox

        judge = foolbox.PyTorchModel(model, bounds=(0, 1), device="cpu")
        l2pgd = foolbox.attacks.L2PGD(rel_stepsize=STEP, steps=STEPS, random_start=False)
        table["foolbox"] = by_radius(lambda x, y, epsilon: l2pgd(judge, x, y, epsilons=epsilon)[1])
        smallest = foolbox.attacks.DDNAttack(steps=DDN_STEPS)

        def ddn(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Attacked:
            return smallest(judge, x, y, epsilons=None)[1].detach(), DDN_STEPS * len(x), len(x)

        table["ddn"] = ddn
    except ImportError as error:
        notes.append(f"foolbox left out: {error}")
    for bf16 in (False, True):
        name = "bf16" if bf16 else "fp32"
        table |= {f"schedule {name}": own(Schedule(bf16=bf16)), f"nearest {name}": own(Nearest(bf16=bf16))}
    return table


def own(search: Schedule | Nearest) -> Method:
    def method(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> Attacked:
        found = search.search(model, x, y)
        return found.inputs, found.gradients, found.forwards

    return method


def as_shipped() -> set[str]:
    """Names of our own methods with the settings that users get."""
    fast = has_fast_bf16(torch.device("cpu"))
    searches: dict[str, Schedule | Nearest] = {"schedule": Schedule(), "nearest": Nearest()}
    bf16 = {name: fast if search.bf16 is None else search.bf16 for name, search in searches.items()}
    return {f"{name} {'bf16' if bf16[name] else 'fp32'}" for name in searches}
