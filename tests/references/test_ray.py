"""Ray: what is refused before anything starts, and a real cluster of two nodes of which one is killed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from unteach.references import work
from unteach.references.executors import Local
from unteach.references.executors.ray import Ray
from unteach.references.manifest import Manifest
from unteach.references.stages import run
from unteach.types import Refusal


@pytest.mark.parametrize("settings", [{"cpus": 0}, {"gpus": 2.0}, {"gpus": -0.5}, {"retries": -1}], ids=str)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match=f"expected .*{next(iter(settings))}"):
        Ray(**settings)


def test_without_ray_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Refusal, match=r"pip install 'unteach\[ray\]'"):
        Ray()(tmp_path / "manifest.json", [0], print)
    Ray()(tmp_path / "manifest.json", [], print)  # without jobs nothing is needed


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_an_address_where_nobody_answers_is_refused_at_once(address: str, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    start = time.monotonic()
    with pytest.raises(Refusal, match=f"expected a Ray cluster at {address}, got"):
        Ray(address=address)(tmp_path / "manifest.json", [0], print)
    assert time.monotonic() - start < 20


def test_jobs_that_no_machine_has_room_for_are_refused() -> None:
    machines = [
        {"Alive": True, "Resources": {"CPU": 8.0}},
        {"Alive": True, "Resources": {"CPU": 2.0, "GPU": 1.0}},
        {"Alive": False, "Resources": {"CPU": 64.0, "GPU": 8.0}},
    ]
    Ray(cpus=8)._check_room(machines)
    Ray(cpus=2, gpus=0.5)._check_room(machines)
    for settings in (Ray(cpus=9), Ray(cpus=4, gpus=0.5)):
        with pytest.raises(Refusal, match="got none of 2; ask for less"):
            settings._check_room(machines)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one core each, as two machines would be but for the network between them."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    yield made
    made.shutdown()


def slow_work() -> Callable[..., None]:
    """Work that says where it was begun and done. Made here, so that it is pickled whole and needs no module there."""

    def do(manifest: Path, number: int, *, device: str, threads: int) -> None:
        import os
        import time

        import ray

        node = ray.get_runtime_context().get_node_id()
        with (manifest.parent / f"{number}.begun").open("a") as file:
            file.write(f"{node} {os.getpid()} {device}-{threads}\n")
        if number == 3:
            raise ValueError("three is a bad number")
        time.sleep(1)
        (manifest.parent / f"{number}.done").touch()

    return do


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_two_nodes_make_the_bytes_of_one_process(cluster: Any, make: Callable[..., Manifest], tmp_path: Path) -> None:
    here, there = make(tmp_path / "here"), make(tmp_path / "there")
    assert run(here.write(), Local(workers=1, device="cpu")) == []
    assert run(there.write(), Ray(address=cluster.address)) == []
    for key in here.keys:
        one, other = (manifest.cache.record(key).logits for manifest in (here, there))
        assert one == other
        assert there.cache.has_logits(key, 1, closely=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_node_dies_and_another_does_its_job(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(work, "do", slow_work())
    doomed = next(iter(cluster.worker_nodes))
    orphans: list[int] = []
    told: list[int] = []

    def tell(number: int) -> None:
        told.append(number)
        while not orphans:  # once: until a job is at work on the second node, which then is killed
            begun = {int(path.stem): path.read_text() for path in tmp_path.glob("*.begun")}
            at_work = [k for k in begun if k != 3 and not (tmp_path / f"{k}.done").exists()]
            orphans.extend(k for k in at_work if doomed.node_id in begun[k])
            if orphans:  # all of a machine dies at once; here its worker would outlive it by seconds
                os.kill(int(begun[orphans[0]].split()[1]), signal.SIGKILL)
                cluster.remove_node(doomed, allow_graceful=False)

    with pytest.raises(Refusal, match=r"all 10 .* got 1 that failed \(job 3: ValueError: three is a bad number\)"):
        Ray(address=cluster.address)(tmp_path / "manifest.json", range(10), tell)
    assert sorted(told) == [k for k in range(10) if k != 3]
    tries = {k: (tmp_path / f"{k}.begun").read_text().splitlines() for k in range(10)}
    assert {k for k, lines in tries.items() if len(lines) > 1} == set(orphans)
    assert all(line.endswith("cpu-1") for lines in tries.values() for line in lines)
    # A worker process goes from job to job, so it loads the data once.
    assert len({line.split()[1] for lines in tries.values() for line in lines}) < 6

    # The cluster was joined, so it runs on; a session that somebody opened stays open.
    assert not ray.is_initialized()
    ray.init(address=cluster.address, log_to_driver=False)
    try:
        Ray()(tmp_path / "manifest.json", [11], told.append)
        assert told[-1] == 11
        assert ray.is_initialized()
    finally:
        ray.shutdown()
