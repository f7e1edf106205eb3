"""The chaos in short: two kills of the controller and two of workers, with damage in between."""

import os
import random
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.damage import damage_checkpoint, damage_lines
from tests.chaos.killer import Killer, Victim
from tests.chaos.rounds import PARTS
from tests.chaos.stage import IN_ANY_ORDER, CannotMountError, Stage
from tests.chaos.troubled import Troubled, Verdict


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with Stage(tmp_path, Killer(uuid.uuid4().hex, random.Random(0))) as made:
        yield made


def test_a_sweep_whose_controller_and_workers_are_killed_ends_like_one_that_nothing_happened_to(
    stage: Stage,
) -> None:
    chance, verdict = random.Random(0), Verdict()
    # one slot with all processors: only one rank has to load torch again after each kill
    slot = f"resources.cpus_per_worker={len(os.sched_getaffinity(0))}"
    overrides = (*IN_ANY_ORDER, slot, "budget.trials=4", "train.epochs=12")
    sweep = Troubled(stage, "short", overrides, None, verdict)

    sweep.go_on()
    assert sweep.watch_lines(9)
    sweep.kill_controller(group=True, wait=False)
    damaged = damage_checkpoint(sweep.witness.root, "flipped", chance)
    sweep.go_on()
    assert sweep.watch_lines(4)
    sweep.kill_controller(group=True, wait=False)
    if torn := damage_lines(sweep.witness.root, "torn", chance):
        sweep.witness.forgive(torn)
    sweep.go_on()
    for kind in (Victim.RANK, Victim.DRIVER):
        assert sweep.watch_lines(3)
        assert sweep.kill_one(kind)
    sweep.finish()

    assert verdict.complaints == []
    assert damaged
    assert sum(verdict.kills.values()) == 4
    assert verdict.trials == 5


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("part", PARTS)
def test_every_part_of_the_chaos_comes_out_without_a_complaint(stage: Stage, part: str) -> None:
    verdict = Verdict()

    try:
        PARTS[part](stage, verdict, 3, random.Random(part))
    except CannotMountError as error:
        pytest.skip(str(error))

    assert verdict.complaints == []
    assert verdict.trials
