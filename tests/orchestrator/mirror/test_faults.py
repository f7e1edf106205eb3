"""A server that fails in every way a server fails loses nothing and doubles nothing."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.errors import OrchestratorError, UnreachableError
from orchestrator.mirror.background import Background
from orchestrator.mirror.sync import Mirror
from tests.support.mirroring import MemoryServer, RecordedSweep, assert_same_but_for_the_clock
from tests.support.mlflow_view import shown
from tests.support.serving import Fault, FaultProxy, mlflow_server

pytestmark = pytest.mark.slow

FAULTS = {
    "down": Fault(),
    "answer lost after it was carried out": Fault(carried_out=True),
    "500": Fault(answer=500),
    "500 after it was carried out": Fault(carried_out=True, answer=500),
    "503": Fault(answer=503),
    "401": Fault(answer=401),
    "403": Fault(answer=403),
    "slow": Fault(carried_out=True, delay_seconds=0.3),
}


@pytest.fixture(scope="module")
def server(made_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    database = folder / "mlflow.db"
    database.write_bytes(made_database.read_bytes())
    with mlflow_server(folder, f"sqlite:///{database}") as url:
        yield url


def sweep_called(name: str, storage: Path) -> RecordedSweep:
    sweep = RecordedSweep(storage, name)
    sweep.example()
    sweep.note(finished="complete")
    return sweep


def assert_whole(server: str, sweep: RecordedSweep) -> None:
    memory = MemoryServer()
    Mirror("http://memory", sweep.paths, connect=memory.open).sync()
    assert_same_but_for_the_clock(shown(server, sweep.name), memory.shown())


@pytest.mark.parametrize("fault", FAULTS)
def test_one_kind_of_fault_at_a_tenth_of_all_requests(server: str, tmp_path: Path, fault: str) -> None:
    sweep = sweep_called(f"fault-{list(FAULTS).index(fault)}", tmp_path)
    proxy = FaultProxy(server, [FAULTS[fault]], share=0.1, chance=random.Random(1))

    for _ in range(400):
        try:
            Mirror(proxy.url, sweep.paths).sync()
            break
        except OrchestratorError:
            continue
    proxy.share = 0.0
    again = Mirror(proxy.url, sweep.paths)
    again.sync()
    proxy.close()

    assert len(proxy.met) > 3
    assert again.backlog() == 0
    assert_whole(server, sweep)


def test_all_kinds_at_once_with_one_mirror_that_goes_on(server: str, tmp_path: Path) -> None:
    sweep = sweep_called("faults", tmp_path)
    proxy = FaultProxy(server, list(FAULTS.values()), share=0.3, chance=random.Random(2))
    mirror = Mirror(proxy.url, sweep.paths)

    for _ in range(400):
        try:
            mirror.sync()
            break
        except OrchestratorError:
            continue
    proxy.close()

    assert len({id(fault) for fault in proxy.met}) > 2
    assert_whole(server, sweep)


def test_a_server_that_refuses_everybody_shows_as_a_backlog_and_is_caught_up_with(
    server: str, tmp_path: Path
) -> None:
    sweep = sweep_called("refused", tmp_path)
    proxy = FaultProxy(server, [Fault(answer=401)], share=1.0)
    mirror = Mirror(proxy.url, sweep.paths)

    with pytest.raises(UnreachableError, match="could not be opened"):
        mirror.sync()
    before = mirror.backlog()
    proxy.share = 0.0
    mirror.sync()
    proxy.close()

    assert (before, mirror.backlog()) == (6, 0)
    assert_whole(server, sweep)


def test_an_outage_holds_up_nobody_who_trains(server: str, tmp_path: Path) -> None:
    """The work of a step takes at most a tenth longer while MLflow is down than without a mirror."""
    sweep = sweep_called("outage", tmp_path)
    proxy = FaultProxy(server, [Fault(answer=503), Fault()], share=1.0)

    def steps(each: Callable[[], None]) -> float:
        times = []
        for _ in range(300):
            begun = time.thread_time()
            sum(value * value for value in range(20_000))
            each()
            times.append(time.thread_time() - begun)
        return sorted(times)[len(times) // 2]

    alone = steps(lambda: None)
    with Background(Mirror(proxy.url, sweep.paths), 0.05, grace_seconds=5.0) as background:
        mirrored = steps(background.wake)
        assert background.last_error is not None
    proxy.close()

    assert mirrored <= 1.1 * alone


def test_another_server_is_filled_from_nothing(
    server: str, tmp_path: Path, make_database: Callable[[Path], str]
) -> None:
    sweep = sweep_called("moved", tmp_path)
    uri = make_database(tmp_path / "mlflow.db")
    Mirror(uri, sweep.paths).sync()

    Mirror(server, sweep.paths).sync()

    assert_whole(server, sweep)
    assert_whole(uri, sweep)
