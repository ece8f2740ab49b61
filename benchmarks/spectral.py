"""Calls of a convolution's map until its norm is right to 0.1 %: power iteration beside Golub–Kahan–Lanczos; cost of clipping.

    OMP_NUM_THREADS=1 python benchmarks/spectral.py

A call is one vector through the map or its transpose. The layer is 64 → 64, 3 × 3, on 32 × 32, zero padding, with normal
weights and with smooth ones as training leaves them (each kernel low-pass, channels of falling weight), stride 1 and 2, three
random starts each (target P8). The truth is Lanczos in double precision with a residual of 1e-9. Warm: the weights move by a
share of their length in a random direction, and the search goes on from the old vector. Then a training step with and without
the clipper, in the process's own CPU time, round by round.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any

import torch

from measure import Spread, markdown, run_rounds, tell
from part import arguments, run
from unteach.models import Blueprint, build
from unteach.spectral import Clip, Clipper, Gouk, Lanczos, LinearMap, Miyato, PowerQR

GOAL, CHANNELS, SIDE, MOST = 1e-3, 64, 32, 400
NORM = Lanczos(k=2, tolerance=1e-4)  # what unteach.spectral.norm does


def layer(kind: str, stride: int, seed: int = 0) -> torch.nn.Conv2d:
    rng = torch.Generator().manual_seed(seed)
    made = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, stride, 1, bias=False)
    weight = torch.randn(made.weight.shape, generator=rng)
    if kind == "smooth":
        bell = torch.tensor([0.5, 1.0, 0.5])
        falling = torch.arange(1, CHANNELS + 1).float() ** -0.5
        weight = (weight.mean((2, 3), keepdim=True) * 3 + 0.3 * weight) * bell[:, None] * bell
        weight = weight * falling[:, None, None, None] * falling[:, None, None]
    with torch.no_grad():
        made.weight.copy_(weight / (9 * CHANNELS) ** 0.5)
    return made


def map_of(made: torch.nn.Conv2d) -> LinearMap:
    return LinearMap(made, (CHANNELS, SIDE, SIDE))


def truth_of(made: torch.nn.Conv2d) -> float:
    exact = torch.nn.Conv2d(CHANNELS, CHANNELS, 3, made.stride, 1, bias=False).double()
    exact.load_state_dict({"weight": made.weight.double()})
    rng = torch.Generator().manual_seed(99)
    return float(Lanczos(k=2, tolerance=1e-9, steps=150)(map_of(exact), rng).values[0])


def power(found: LinearMap, row: torch.Tensor, shift: float) -> Iterator[float]:
    """Norms after each iteration: two calls, since the norm is read off the image that the next one needs anyway."""
    row = row / row.norm()
    while True:
        image = found.matvec(row)
        yield float(image.norm())
        row = found.rmatvec(image) + shift * row
        row = row / row.norm()


def calls_of_power(found: LinearMap, start: torch.Tensor, shift: float, truth: float) -> int:
    """Twice the iterations to the goal; ``2 × MOST`` when it isn't reached."""
    for number, value in enumerate(power(found, start, shift)):
        if abs(value - truth) < GOAL * truth or number == MOST:
            return 2 * number
    raise AssertionError


def calls_of_lanczos(found: LinearMap, start: torch.Tensor, truth: float) -> int:
    """Twice the fewest steps whose value is at the goal: the error only falls, so halving finds them."""
    low, high = 0, 100
    while high - low > 1:
        steps = (low + high) // 2
        value = float(Lanczos(tolerance=1e-9, steps=steps)(found, start).values[0])
        low, high = (low, steps) if abs(value - truth) < GOAL * truth else (steps, high)
    return 2 * high


def span(values: list[int]) -> str:
    most = f">{2 * MOST}" if max(values) >= 2 * MOST else str(max(values))
    return f"{min(values)}–{most}"


def cold(starts: int) -> list[dict[str, Any]]:
    rows = []
    for kind in ("normal", "smooth"):
        for stride in (1, 2):
            made = layer(kind, stride)
            truth, found = truth_of(made), map_of(made)
            reshaped = float(torch.linalg.matrix_norm(made.weight.detach().flatten(1), 2))
            row: dict[str, Any] = {"weights": kind, "stride": stride, "norm": truth, "reshaped": reshaped / truth}
            counts: dict[str, list[int]] = {"power": [], "paper": [], "lanczos": [], "bounded": [], "norm_calls": []}
            errors: dict[str, list[float]] = {"bounded": [], "norm": []}
            for seed in range(starts):
                start = torch.randn(1, found.n, generator=torch.Generator().manual_seed(seed))
                counts["power"].append(calls_of_power(found, start, 0.0, truth))
                counts["paper"].append(calls_of_power(found, start, 1.0, truth))
                counts["lanczos"].append(calls_of_lanczos(found, start, truth))
                for name, search in {"bounded": Lanczos(), "norm": NORM}.items():
                    pair = torch.randn(search.k, found.n, generator=torch.Generator().manual_seed(seed))
                    top = search(found, pair)
                    counts["norm_calls" if name == "norm" else name].append(top.calls)
                    errors[name].append(abs(float(top.values[0]) - truth) / truth)
                tell(f"{kind}, stride {stride}, start {seed + 1}/{starts}: {[every[-1] for every in counts.values()]}")
            ratio = Spread.of(p / c for p, c in zip(counts["power"], counts["bounded"]))
            limit = Spread.of(c / b for c, b in zip(counts["lanczos"], counts["bounded"]))
            rows.append({**row, **counts, "errors": errors, "ratio": ratio, "limit": limit})
    return rows


def warm() -> list[dict[str, Any]]:
    rows = []
    for kind in ("normal", "smooth"):
        for stride in (1, 2):
            for share in (0.001, 0.01, 0.05):
                made = layer(kind, stride)
                rng = torch.Generator().manual_seed(1)
                old = Lanczos(k=2, tolerance=1e-4)(map_of(made), rng).vectors[:1]
                with torch.no_grad():
                    step = torch.randn(made.weight.shape, generator=rng)
                    made.weight += share * made.weight.norm() * step / step.norm()
                truth, found = truth_of(made), map_of(made)
                once = Lanczos(steps=1)(found, old)
                assert once.residuals is not None
                qr = PowerQR(iterations=1, shift=0.0)(found, old)
                rows.append(
                    {
                        "weights": kind,
                        "stride": stride,
                        "moved": share,
                        "calls": once.calls,
                        "error": abs(float(once.values[0]) - truth) / truth,
                        "residual": float(once.residuals[0]) / truth,
                        "error_after_a_power_step": abs(float(qr.values[0]) - truth) / truth,
                    }
                )
    return rows


def step_of(name: str, shape: tuple[int, ...], bound: Any) -> Callable[[], None]:
    """A training step of 128 images, and what the bound does after it."""
    model = build(Blueprint(name=name, classes=10, shape=shape), seed=0).to(memory_format=torch.channels_last).train()  # type: ignore
    rng = torch.Generator().manual_seed(0)
    x = torch.rand(128, *shape, generator=rng).contiguous(memory_format=torch.channels_last)
    y = torch.randint(0, 10, (128,), generator=rng)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    after = Clipper(bound, model, shape) if bound else None

    def step() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        if after is not None:
            after(model)

    def steps() -> None:
        for _ in range(10):  # several, since not every step clips
            step()

    return steps


def training(rounds: int) -> list[dict[str, Any]]:
    rows = []
    for name, shape in (("small-cnn", (1, 28, 28)), ("airbench-small", (3, 32, 32))):
        bounds = {"plain": None, "clip": Clip(), "gouk": Gouk(), "miyato": Miyato()}
        arms = {label: step_of(name, shape, bound) for label, bound in bounds.items()}
        found = run_rounds(arms, rounds, label=name)
        for label in bounds:
            rows.append(
                {
                    "network": name,
                    "held by": label,
                    "ms": found.of(label).times(100),
                    "ratio": found.ratio(label, "plain"),
                    "quiet": found.quiet,
                }
            )
    return rows


def cold_cells(row: dict[str, Any]) -> list[object]:
    errors = {name: f"{max(every):.0e}" for name, every in row["errors"].items()}
    start = [row["weights"], row["stride"], f"{row['norm']:.3f}", f"{row['reshaped']:.2f}"]
    peers = [span(row[name]) for name in ("power", "paper", "lanczos", "bounded")]
    return [*start, *peers, errors["bounded"], f"{row['ratio'].median:.1f}", span(row["norm_calls"]), errors["norm"]]


def warm_cells(row: dict[str, Any]) -> list[object]:
    small = (f"{row[name]:.0e}" for name in ("error", "residual", "error_after_a_power_step"))
    return [row["weights"], row["stride"], f"{row['moved']:.1%}", row["calls"], *small]


def norms(asked: argparse.Namespace) -> dict[str, Any]:
    found = {"cold": cold(1 if asked.quick else asked.starts), "warm": warm()}
    head = ["weights", "stride", "norm", "reshaped / norm", "power AᵀA", "power I + AᵀA", "Lanczos, true error"]
    head += ["Lanczos, residual < 0.1 %", "its error", "power / it", "norm()", "its error"]
    print(f"Calls until the norm is right to {GOAL:.1%}, from random starts\n")
    print(markdown(head, map(cold_cells, found["cold"])))
    print("\nWarm: from the old vector, after the weights have moved\n")
    head = ["weights", "stride", "moved by", "calls", "error", "residual", "error after one power step"]
    print(markdown(head, map(warm_cells, found["warm"])))
    if asked.quick or asked.only_calls:
        return found
    found["training"] = training(asked.rounds)
    print("\nA training step of 128 images, own CPU time\n")
    head = ["network", "held by", "ms", "of a plain step"]
    print(markdown(head, ([r["network"], r["held by"], r["ms"], r["ratio"]] for r in found["training"])))
    return found


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only-calls", action="store_true", help="calls and errors only, not the cost in training")
    run(norms, parser.parse_args())


if __name__ == "__main__":
    main()
