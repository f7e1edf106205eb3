import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from cpsc_core.attempt import AttemptPaths
from cpsc_core.data.labelled import PlacedData
from cpsc_core.errors import DivergedError
from cpsc_core.evaluate import held_out_accuracy
from cpsc_core.process import using_threads
from cpsc_core.settings import DataSettings, TeacherTraining
from cpsc_core.teacher_training import Keeping, TeacherReport, train_teacher

DATA = DataSettings(name="digits")
SHORT = TeacherTraining(epochs=2, batch_size=64)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    with using_threads(1):
        yield


def train(training: TeacherTraining = SHORT, **options: Any) -> list[TeacherReport]:
    return list(train_teacher("resnet8", DATA, training, threads=1, **options))


@pytest.fixture(scope="module")
def reports() -> list[TeacherReport]:
    return train()


def weights(report: TeacherReport) -> Tensor:
    return torch.cat([tensor.double().flatten() for tensor in report.network.state_dict().values()])


def test_a_teacher_learns_and_tells_how_well(reports: list[TeacherReport]) -> None:
    first, last = reports

    assert [report.epoch for report in reports] == [1, 2]
    assert last.train_loss < first.train_loss < math.log(10)
    assert first.accuracy.keys() == {"val"}
    assert last.accuracy == held_out_accuracy(last.network, PlacedData.of(DATA))
    assert last.accuracy["val"] > 0.5


def test_training_depends_on_settings_and_not_on_what_ran_before(reports: list[TeacherReport]) -> None:
    torch.manual_seed(7)

    again = train()

    assert torch.equal(weights(again[-1]), weights(reports[-1]))
    assert [report.train_loss for report in again] == [report.train_loss for report in reports]


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"augment": False}, {"label_smoothing": 0.1}, {"momentum": 0.0}, {"precision": "bf16"}],
)
def test_every_setting_counts(reports: list[TeacherReport], change: dict[str, Any]) -> None:
    other = next(train_teacher("resnet8", DATA, replace(SHORT, **change), threads=1))

    assert other.train_loss != reports[0].train_loss


def test_every_step_is_a_sign_of_life() -> None:
    signs: list[int] = []

    next(train_teacher("resnet8", DATA, SHORT, threads=1, on_step=lambda: signs.append(1)))

    assert len(signs) == 1199 // SHORT.batch_size + 1


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    with pytest.raises(DivergedError, match="the teacher's loss stopped being finite in epoch 1"):
        train(replace(SHORT, lr=1e20))


def test_a_training_that_was_cut_off_goes_on_to_the_same_weights(
    tmp_path: Path, reports: list[TeacherReport]
) -> None:
    keeping = Keeping(folder=tmp_path, key="k", every_seconds=0)
    cut_off = train_teacher("resnet8", DATA, SHORT, threads=1, keeping=keeping)
    next(cut_off)
    cut_off.close()

    rest = train(keeping=keeping)

    assert [report.epoch for report in rest] == [2]
    assert torch.equal(weights(rest[-1]), weights(reports[-1]))
    assert rest[-1].accuracy == reports[-1].accuracy


def test_checkpoints_of_another_teacher_are_not_taken(tmp_path: Path) -> None:
    next(
        train_teacher(
            "resnet8", DATA, SHORT, threads=1, keeping=Keeping(folder=tmp_path, key="a", every_seconds=0)
        )
    )

    first = next(train_teacher("resnet8", DATA, SHORT, threads=1, keeping=Keeping(folder=tmp_path, key="b")))

    assert first.epoch == 1


def test_a_checkpoint_is_written_when_there_is_work_to_lose(tmp_path: Path) -> None:
    train(keeping=Keeping(folder=tmp_path, key="k", every_seconds=3600))

    assert AttemptPaths.of(tmp_path, 1).checkpoint_points() == []
