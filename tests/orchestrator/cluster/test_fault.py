"""What speaks against a machine, by its answers alone."""

from typing import Any

import pytest

from orchestrator.cluster.capacity import Node
from orchestrator.cluster.fault import Fault, find_faults, refusal
from orchestrator.errors import UnreachableError, UsageError

NODE = Node(host="10.0.0.3", name="gpu-7", id="ab", cpus=8.0, gpus=2.0)
GIB = 1024**3
OURS: dict[str, Any] = {
    "product": "0.1.0",
    "interface": "ib0",
    "interfaces": ["ib0", "lo"],
    "python": "3.11.7",
    "versions": {"ray": "2.60.0", "torch": "2.14.1+cpu", "numpy": "2.3.0"},
    "plugins": {"birds": "1.2"},
    "code": "c0de",
    "code_from": "/here/orchestrator/__init__.py",
    "storage": None,
    "bucket": None,
    "folders": {},
    "cache": None,
    "free": {"/tmp": 9 * GIB},
    "gpus": None,
}


def against(**answers: Any) -> list[str]:
    """What is told of a machine that answers as we do but for this."""
    return [str(fault) for fault in find_faults(OURS, OURS | answers, NODE)]


def test_nothing_speaks_against_a_machine_that_answers_as_the_controller_does() -> None:
    assert against() == []


def test_another_build_of_the_same_torch_is_the_same_torch() -> None:
    assert against(versions=OURS["versions"] | {"torch": "2.14.1+cu130"}) == []


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ({"python": "3.12.1"}, "has Python 3.12.1, here is 3.11.7"),
        ({"versions": OURS["versions"] | {"torch": "2.13.0"}}, "has torch 2.13.0, here is 2.14.1+cpu"),
        ({"plugins": {}}, "has birds not at all, here is 1.2"),
        ({"plugins": {"birds": "1.1"}}, "has birds 1.1, here is 1.2"),
        ({"code": None}, "has none of our code"),
        ({"code": "beef", "code_from": "/opt/x.py"}, "runs other code, of /opt/x.py"),
        (
            {"storage": {"error": "No such file"}},
            "does not share the storage with this machine: No such file",
        ),
        ({"bucket": "s3://runs/a cannot be used"}, "cannot use the storage: s3://runs/a cannot be used"),
        ({"folders": {"/data/birds": "No such file"}}, "cannot read /data/birds: No such file"),
        ({"interfaces": ["eth0", "lo"]}, "has no network interface ib0, only eth0, lo"),
        ({"cache": "Read-only file system"}, "cannot keep the files it is sent: Read-only"),
        ({"free": {"/tmp": 1024**2}}, "free in /tmp; make room there"),
        ({"gpus": {"error": "no driver"}}, "cannot compute on its GPUs: no driver"),
        (
            {"gpus": {"count": 0, "cuda": None}},
            "has 2 GPU(s) for Ray, but torch sees 0: torch is built for the CPU",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_named(answers: dict[str, Any], told: str) -> None:
    (said,) = against(**answers)

    assert told in said
    assert "; " in said


def test_all_packages_that_are_missing_are_named_with_what_installs_them() -> None:
    (said,) = against(versions={"ray": "2.60.0", "torch": None, "numpy": None})

    assert said == "lacks torch, numpy; `pip install cpsc-orchestrate==0.1.0` there"


def test_gpus_that_are_not_asked_for_are_not_missed() -> None:
    assert against(gpus=None) == []
    assert against(gpus={"count": 2, "cuda": "13.0"}) == []


def test_one_refusal_names_every_machine_that_fails_and_what_to_do() -> None:
    other = Node(host="10.0.0.4", id="cd", cpus=8.0, gpus=0.0)
    fit = Node(host="10.0.0.5", id="ef", cpus=8.0, gpus=0.0)
    wrong = Fault(finding="has torch 1", advice="install the same")

    refused = refusal({NODE: [wrong], other: [wrong, wrong], fit: []})

    assert isinstance(refused, UsageError)
    assert str(refused).splitlines() == [
        "2 of 3 node(s) cannot run trials:",
        "  10.0.0.3 (gpu-7): has torch 1; install the same",
        "  10.0.0.4: has torch 1; install the same",
        "  10.0.0.4: has torch 1; install the same",
        "see to them, or take them out of the cluster, and give the command again",
    ]


def test_a_machine_that_cannot_be_reached_decides_the_exit_code() -> None:
    silent = Fault(finding="did not answer", advice="look at it", code=3)

    refused = refusal({NODE: [Fault(finding="x", advice="y"), silent]})

    assert isinstance(refused, UnreachableError)
    assert refused.exit_code == 3


def test_machines_that_are_all_fit_are_not_refused() -> None:
    assert refusal({NODE: []}) is None
