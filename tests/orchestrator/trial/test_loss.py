"""Why a rank is gone, from what Ray and the kernel say of it."""

from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import OutOfMemoryError, RayActorError

from cpsc_core.memory import MemoryUse
from orchestrator.cluster.shape import Shape
from orchestrator.store.records import EndClass
from orchestrator.trial import gang as module
from orchestrator.trial.failure import classify
from orchestrator.trial.gang import Gang
from orchestrator.trial.news import Berth

RAY_SAYS = """1 worker(s) were killed due to the node running low on memory. Memory on the node \
(IP: 192.0.2.2, ID: 37361fe9) was 5.60GB used / 23.54GB limit (0.237735)
OOM kill reason: Memory usage 6000857088B exceeded threshold of 5997031424B (23.7% of 25276510208B limit)
Object store memory usage: [- objects spillable: 0
Selected to kill: (Actor(da822926): job ID=01000000, lease ID=01, task name=A.__init__, required \
resources={CPU: 1}, pid=24350, actual memory used=1.52GB, worker ID=6f07fc)
Top 10 memory users: PID	MEM(GB)	COMMAND
"""
GIB = 1024**3


@pytest.fixture
def gang(monkeypatch: pytest.MonkeyPatch) -> Gang:
    """Two ranks on machines a and b, of which nobody was killed or terminated; no Ray is needed for it."""
    gang = Gang.__new__(Gang)
    gang.shape = Shape(workers=2, cpus=1, gpus=0.0)
    gang._batch_size = 64
    gang._berths = [Berth(host=host, node=host, pid=1, memory_kills=3) for host in "ab"]
    gang._watch = SimpleNamespace(terminated=[], memory=lambda _: None)  # type: ignore[assignment]
    monkeypatch.setattr(module, "memory_kills", lambda node: 3)
    return gang


def loss(gang: Gang, error: Exception) -> tuple[EndClass, str]:
    found = gang._loss(error, "a rank died")
    return classify(found), str(found)


def died(**said: Any) -> RayActorError:
    return RayActorError(**({"error_msg": "The actor died unexpectedly.\nOn two pages."} | said))


def test_a_process_that_is_simply_gone_is_lost(gang: Gang) -> None:
    assert loss(gang, died()) == (
        EndClass.INFRASTRUCTURE,
        "a rank died: The actor died unexpectedly.",
    )


def test_a_process_that_ray_killed_for_memory_says_what_there_was_and_what_to_try(gang: Gang) -> None:
    assert loss(gang, OutOfMemoryError(RAY_SAYS)) == (
        EndClass.OUT_OF_MEMORY,
        "Ray killed a rank because memory ran out: the machine had 5.60GB used / 23.54GB limit, "
        "the rank 1.52GB; try a batch_size of 32 instead of 64",
    )


def test_a_process_that_the_kernel_killed_for_memory_says_what_it_needed(
    gang: Gang, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "memory_kills", lambda node: 4 if node == "b" else 3)
    needed = {1: MemoryUse(held=GIB, peak=9 * GIB, limit=5 * GIB)}
    gang._watch.memory = needed.get  # type: ignore[method-assign]

    ended, said = loss(gang, died())

    assert ended is EndClass.OUT_OF_MEMORY
    assert said.startswith("the kernel of b killed a rank to free memory; it needs 9.00 GiB or more of 5.00")
    assert "a batch_size of about 28 instead of 64 would fit" in said


def test_a_process_of_a_drained_machine_was_preempted(gang: Gang) -> None:
    ended, said = loss(gang, died(preempted=True))

    assert ended is EndClass.PREEMPTED
    assert said == "a rank died: its machine was drained and is gone"


def test_a_process_that_was_killed_after_sigterm_was_preempted(gang: Gang) -> None:
    gang._watch.terminated.append(1)

    assert loss(gang, died()) == (EndClass.PREEMPTED, "a rank died after it had been sent SIGTERM")
