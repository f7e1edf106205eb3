"""Trials on several ranks, as `torchrun` starts them; what dies is killed for real."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cpsc_core.__main__ import main
from cpsc_core.attempt import AttemptPaths, Point, attempts_of, read_lines
from cpsc_core.errors import AttemptError, RankError, SettingsError
from cpsc_core.rank import ALONE, Rank
from cpsc_core.settings import TeacherSettings, TrialSettings
from cpsc_core.trial import finished_line, run_trial
from tests.support.ranks import environment_of_ranks, on_ranks
from tests.support.trials import comparable, digest, finish, tiny_trial

pytestmark = pytest.mark.usefixtures("one_thread")


def running(
    settings: TrialSettings, folder: Path, attempt: int = 1
) -> Callable[[Rank], list[dict[str, Any]]]:
    """A trial on a rank; the lines it yields."""
    return lambda rank: list(run_trial(settings, folder, attempt, threads=1, rank=rank))


class Ranks:
    """`python -m cpsc_core` on two ranks: two copies of this process, in the environment `torchrun` sets."""

    def __init__(self, settings: TrialSettings, trial: Path) -> None:
        config = trial.with_suffix(".json")
        config.write_text(json.dumps(settings.to_dict()))
        self.said = trial.with_suffix(".txt")
        self.pids = []
        for told in environment_of_ranks(2):
            pid = os.fork()
            if pid == 0:
                sys.stdout = sys.stderr = self.said.open("a", buffering=1)
                os.environ |= told
                os._exit(main([str(config), "--folder", str(trial)]))
            self.pids.append(pid)

    def codes(self) -> list[int]:
        return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in self.pids]


def wait_for(event: Callable[[], bool]) -> None:
    while not event():
        time.sleep(0.01)


# What a rank is


def test_a_process_that_torchrun_did_not_start_is_alone_on_the_cpu() -> None:
    rank = Rank.from_environment({"WORLD_SIZE": "4", "RANK": "1"}, device=None, timeout_seconds=1.0)

    assert (rank.index, rank.world_size, rank.device) == (0, 1, "cpu")


def test_a_rank_computes_where_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def device(local_rank: str, asked: str | None) -> str:
        environ = {"LOCAL_RANK": local_rank, "RANK": "0", "WORLD_SIZE": "1"}
        return Rank.from_environment(environ, device=asked, timeout_seconds=1.0).device

    assert [device("1", None), device("1", "cuda"), device("1", "cuda:0")] == ["cuda:1", "cuda:1", "cuda:0"]
    assert device("7", "cpu") == "cpu"
    with pytest.raises(SettingsError, match="no device 'abacus'; use cpu or cuda"):
        device("0", "abacus")
    with pytest.raises(SettingsError, match=r"rank 2 .* no GPU of its own, as there are 2; start 2 ranks"):
        device("2", None)


def test_alone_nothing_is_exchanged_or_copied() -> None:
    batch = torch.ones(3)
    answer = object()

    assert ALONE.part(batch).data_ptr() == ALONE.gather(batch).data_ptr() == batch.data_ptr()
    assert ALONE.ask(lambda: answer) is answer
    assert ALONE.any(True) and not ALONE.any(False)
    ALONE.leave()


def test_only_the_first_rank_is_asked_and_all_hear_the_answer() -> None:
    def act(rank: Rank) -> tuple[Any, list[int]]:
        asked: list[int] = []

        def question() -> dict[str, Any]:
            asked.append(rank.index)
            return {"caf\u00e9": [0.1 + 0.2, None, True]}

        return rank.ask(question), asked

    answer = {"caf\u00e9": [0.1 + 0.2, None, True]}
    assert on_ranks(3, act) == [(answer, [0]), (answer, []), (answer, [])]


def test_an_error_of_the_first_rank_leaves_on_every_rank() -> None:
    def act(rank: Rank) -> str:
        def fail() -> None:
            raise FileNotFoundError("no such disk")

        with pytest.raises((FileNotFoundError, RankError)) as caught:
            rank.ask(fail)
        return f"{caught.typename}: {caught.value}"

    assert on_ranks(2, act) == [
        "FileNotFoundError: no such disk",
        "RankError: the first rank failed: FileNotFoundError: no such disk",
    ]


def test_a_rank_that_keeps_silent_is_given_up_after_the_timeout() -> None:
    def act(rank: Rank) -> str:
        if rank.index == 1:
            time.sleep(1.5)
            return "slept"
        with pytest.raises(RankError) as caught:
            rank.any(False)
        return str(caught.value)

    words, slept = on_ranks(2, act, timeout_seconds=0.5)
    assert slept == "slept"
    assert "rank 0 of 2 lost the others: one has died or does not answer" in words


def test_no_thread_that_exchanges_anything_outlives_the_connection() -> None:
    """Such a thread aborts the process at its end, now and then; what keeps it is loaded by an optimiser."""
    script = """
import os, pathlib, torch
from cpsc_core.rank import Rank
rank = Rank.from_environment(os.environ, device=None, timeout_seconds=60)
torch.optim.Adam([torch.nn.Parameter(torch.ones(1))]).zero_grad()
rank.leave()
names = [path.read_text() for path in pathlib.Path("/proc/self/task").glob("*/comm")]
print([name for name in names if "gloo" in name])
"""
    command = [sys.executable, "-c", script]
    started = [
        subprocess.Popen(command, env={**os.environ, **told}, stdout=subprocess.PIPE, text=True)
        for told in environment_of_ranks(2)
    ]

    assert [each.communicate()[0] for each in started] == ["[]\n", "[]\n"]


# A trial on two ranks


def test_a_trial_on_two_ranks_is_written_once_and_equals_one_on_one_rank(
    teacher: TeacherSettings, tmp_path: Path
) -> None:
    settings = tiny_trial(teacher)
    alone = finish(settings, tmp_path / "alone")

    first, second = on_ranks(2, running(settings, tmp_path / "pair"))

    (pair,) = attempts_of(tmp_path / "pair")
    process = json.loads(pair.process.read_text())
    assert first == second == read_lines(pair.metrics)
    assert process["ranks"] == 2 == len(set(process["pids"]))
    assert process["pid"] == process["pids"][0]
    assert {path.relative_to(pair.root) for path in pair.root.rglob("*")} == {
        path.relative_to(alone.root) for path in alone.root.rglob("*")
    }
    for line, expected in zip(first, read_lines(alone.metrics), strict=True):
        assert line.keys() == expected.keys()
        for name in ("generator_loss", "student_loss", "generator_batch_norm", "generator_contrastive"):
            assert line[name] == pytest.approx(expected[name], rel=1e-3)


def test_an_attempt_that_was_begun_before_is_refused_on_every_rank(
    teacher: TeacherSettings, tmp_path: Path
) -> None:
    AttemptPaths.of(tmp_path, 1).root.mkdir(parents=True)

    def act(rank: Rank) -> str:
        with pytest.raises((AttemptError, RankError), match="was begun before") as caught:
            running(tiny_trial(teacher), tmp_path)(rank)
        return caught.typename

    assert on_ranks(2, act) == ["AttemptError", "RankError"]


def test_a_batch_that_the_ranks_cannot_share_is_one_sentence(
    teacher: TeacherSettings, tmp_path: Path
) -> None:
    ranks = Ranks(tiny_trial(teacher, batch_size=7), tmp_path / "trial")

    assert ranks.codes() == [2, 2]
    assert set(ranks.said.read_text().splitlines()) == {
        "error: batch_size is 7, which 2 ranks cannot share evenly; choose 6 or 8, or another number of ranks"
    }


def test_a_killed_rank_ends_the_other_and_the_trial_goes_on_as_if_nothing_had_happened(
    teacher: TeacherSettings, tmp_path: Path
) -> None:
    settings = tiny_trial(teacher, epochs=4)
    whole = tmp_path / "whole"
    on_ranks(2, running(settings, whole))
    trial = tmp_path / "killed"

    for victim, lines in ((1, 1), (0, 2)):
        ranks = Ranks(settings, trial)
        wait_for(
            lambda lines=lines: any(len(read_lines(each.metrics)) >= lines for each in attempts_of(trial))
        )
        os.kill(ranks.pids[victim], signal.SIGKILL)
        codes = ranks.codes()
        assert codes[victim] == -signal.SIGKILL
        assert codes[1 - victim] == 2
        assert f"error: rank {1 - victim} of 2 lost the others" in ranks.said.read_text()
    assert finished_line(trial) is None
    assert Ranks(settings, trial).codes() == [0, 0]

    assert [each.number for each in attempts_of(trial)] == [1, 2, 3]
    assert digest(attempts_of(trial)[-1]) == digest(attempts_of(whole)[-1])


def test_a_signal_to_one_rank_stops_both_after_a_checkpoint(teacher: TeacherSettings, tmp_path: Path) -> None:
    trial = tmp_path / "trial"
    attempt = AttemptPaths.of(trial, 1)

    ranks = Ranks(tiny_trial(teacher, epochs=5000), trial)
    wait_for(attempt.metrics.exists)
    os.kill(ranks.pids[1], signal.SIGTERM)

    assert ranks.codes() == [128 + signal.SIGTERM] * 2
    assert attempt.checkpoint_points()[-1] >= Point(len(read_lines(attempt.metrics)))
    assert ranks.said.read_text().splitlines()[-1] == f"stopped: {trial}"


def test_torchrun_runs_a_trial_on_two_ranks(teacher: TeacherSettings, tmp_path: Path) -> None:
    settings = tiny_trial(teacher)
    config = tmp_path / "config.json"
    config.write_text(json.dumps(settings.to_dict()))
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

    run = subprocess.run(
        [*torchrun, "-m", "cpsc_core", str(config), "--folder", str(tmp_path / "trial")],
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    (_, _, last) = run.stdout.splitlines()
    assert last == f"finished: {tmp_path / 'trial'}"
    lines = on_ranks(2, running(settings, tmp_path / "forked"))[0]
    assert comparable(read_lines(AttemptPaths.of(tmp_path / "trial", 1).metrics)) == comparable(lines)
