import pytest

from orchestrator import decide as d
from orchestrator.store.records import EndClass, TrialState

RETRY = {EndClass.INFRASTRUCTURE: 2, EndClass.OUT_OF_MEMORY: 1}


def state(**rules: object) -> d.State:
    plain: dict[str, object] = {"trials": 3, "retry": RETRY, "confirm": False}
    return d.State(rules=d.Rules(**(plain | rules)))  # type: ignore[arg-type]


def step(before: d.State, *events: d.Event) -> tuple[d.State, list[d.Action]]:
    """The state after some events, and every action they asked for."""
    asked: list[d.Action] = []
    for event in events:
        before, actions = d.decide(before, event)
        asked += actions
    return before, asked


def running(name: str = "a", **rules: object) -> d.State:
    after, _ = step(state(**rules), d.SlotFree(0.0), d.Suggested(name), d.SlotFree(0.0))
    return after


def test_a_free_slot_asks_the_study_then_runs_what_it_named() -> None:
    _, actions = step(state(), d.SlotFree(0.0), d.Suggested("a"), d.SlotFree(0.0))

    assert actions == [d.AskStudy(0), d.RunTrial("a", 1)]


def test_the_search_ends_once_every_suggestion_was_used() -> None:
    after, actions = step(
        running(trials=1),
        d.SlotFree(1.0),
        d.Ended("a", EndClass.COMPLETE, 2.0, objective=0.5),
        d.SlotFree(3.0),
    )

    assert actions == [d.Wait(None), d.Commit("a", TrialState.COMPLETE), d.Finish("all 1 trials are done")]
    assert after.best == 0.5


def test_a_prune_is_committed_when_it_is_reported_and_not_again_when_the_attempt_ends() -> None:
    _, actions = step(running(), d.Reported("a", True, "why"), d.Ended("a", EndClass.PRUNED, 1.0))

    assert actions == [d.Commit("a", TrialState.PRUNED, None, "why")]


def test_a_pruned_trial_stays_pruned_when_its_process_dies_at_the_same_moment() -> None:
    after, actions = step(running(), d.Reported("a", True), d.Ended("a", EndClass.INFRASTRUCTURE, 1.0))

    assert [type(action) for action in actions] == [d.Commit]
    assert after.trials["a"].state is TrialState.PRUNED
    assert after.waiting == ()


def test_a_failure_with_budget_left_is_tried_again_after_a_growing_wait() -> None:
    current, starts = running(trials=1), []
    now = 0.0
    for _ in range(2):
        current, _ = step(current, d.Ended("a", EndClass.INFRASTRUCTURE, now))
        current, (wait,) = step(current, d.SlotFree(now))
        assert isinstance(wait, d.Wait)
        assert wait.until is not None
        starts.append(wait.until - now)
        now = wait.until
        current, actions = step(current, d.SlotFree(now))
        assert [type(action) for action in actions] == [d.RunTrial]
    after, actions = step(current, d.Ended("a", EndClass.INFRASTRUCTURE, now, "the node is gone"))

    assert starts == [1.0, 2.0]
    assert actions == [d.Commit("a", TrialState.FAILED, "infrastructure", "the node is gone")]
    assert after.trials["a"].attempts == 3


def test_each_class_of_failure_has_a_budget_of_its_own() -> None:
    after, actions = step(
        running(),
        d.Ended("a", EndClass.INFRASTRUCTURE, 0.0),
        d.SlotFree(5.0),
        d.Ended("a", EndClass.OUT_OF_MEMORY, 5.0),
    )

    assert after.trials["a"].state is TrialState.PENDING
    assert not any(isinstance(action, d.Commit) for action in actions)


def test_preemption_never_counts() -> None:
    current = running(trials=1)
    for turn in range(20):
        current, _ = step(
            current, d.Ended("a", EndClass.PREEMPTED, 1000.0 * turn), d.SlotFree(1000.0 * turn + 999)
        )

    assert current.trials["a"].state is TrialState.RUNNING
    assert current.trials["a"].attempts == 21


@pytest.mark.parametrize("ended", [EndClass.DIVERGED, EndClass.ERROR, EndClass.DATA])
def test_a_failure_without_a_budget_ends_the_trial_and_the_sweep_goes_on(ended: EndClass) -> None:
    _, actions = step(running(), d.Ended("a", ended, 1.0, "why"), d.SlotFree(1.0))

    assert actions == [d.Commit("a", TrialState.FAILED, ended.value, "why"), d.AskStudy(1)]


SAME = {"fingerprint": "f", "detail": "ValueError: no"}


def test_an_error_that_repeats_at_the_same_place_is_the_last_whatever_budget_is_left() -> None:
    current = running(retry={EndClass.ERROR: 9})
    current, first = step(current, d.Ended("a", EndClass.ERROR, 0.0, **SAME), d.SlotFree(9.0))  # type: ignore[arg-type]
    _, second = step(current, d.Ended("a", EndClass.ERROR, 9.0, **SAME))  # type: ignore[arg-type]

    assert first == [d.RunTrial("a", 2)]
    why = "ValueError: no; it failed at the same place before, and is not tried again"
    assert second == [d.Commit("a", TrialState.FAILED, "error", why)]


def test_errors_at_different_places_use_up_the_budget() -> None:
    current, now = running(retry={EndClass.ERROR: 2}), 0.0
    for place in "xyz":
        current, actions = step(current, d.Ended("a", EndClass.ERROR, now, fingerprint=place))
        now += 100.0
        if not actions:
            current, _ = step(current, d.SlotFree(now))

    assert current.trials["a"].attempts == 3
    assert [type(action) for action in actions] == [d.Commit]


def test_a_crash_that_repeats_is_no_failure_of_the_infrastructure() -> None:
    crash = {"fingerprint": "segfault at update"}
    current, _ = step(running(), d.Ended("a", EndClass.INFRASTRUCTURE, 0.0, **crash), d.SlotFree(9.0))  # type: ignore[arg-type]
    _, actions = step(current, d.Ended("a", EndClass.INFRASTRUCTURE, 9.0, **crash))  # type: ignore[arg-type]

    assert [type(action) for action in actions] == [d.Commit]


def test_memory_that_ran_out_is_saved_in_the_next_attempt_and_ever_after() -> None:
    short, lost = EndClass.OUT_OF_MEMORY, EndClass.INFRASTRUCTURE
    _, actions = step(
        running(), d.Ended("a", short, 0.0), d.SlotFree(9.0), d.Ended("a", lost, 9.0), d.SlotFree(99.0)
    )

    assert actions == [d.RunTrial("a", 2, recompute=True), d.RunTrial("a", 3, recompute=True)]


def test_memory_that_runs_out_although_it_is_saved_ends_the_trial() -> None:
    current = running(retry={EndClass.OUT_OF_MEMORY: 9})
    _, actions = step(current, d.Ended("a", EndClass.OUT_OF_MEMORY, 0.0, "needs 9 GiB", recomputed=True))

    why = "needs 9 GiB; computing activations twice did not save enough"
    assert actions == [d.Commit("a", TrialState.FAILED, "out_of_memory", why)]


def test_gpu_hours_close_the_search_and_let_what_runs_go_on() -> None:
    current = running(gpu_seconds=100.0)
    lost = d.Ended("a", EndClass.INFRASTRUCTURE, 0.0, seconds=60.0, gpu_seconds=120.0)
    after, actions = step(current, lost, d.SlotFree(9.0), d.SlotFree(9.0))

    assert actions == [d.RunTrial("a", 2), d.Wait(None)]
    assert after.closed == "budget spent: 0.03 of 0.03 GPU hours"


def test_a_stopped_trial_waits_first_in_line_for_a_resume() -> None:
    after, actions = step(
        running(), d.Closed("stopped", stopping=True), d.Ended("a", EndClass.STOPPED, 1.0), d.SlotFree(1.0)
    )

    assert actions == [d.Finish("stopped")]
    assert after.waiting == ("a",)


def test_twenty_duplicates_in_a_row_end_the_search() -> None:
    current = running(trials=1000)
    for _ in range(20):
        current, actions = step(current, d.SlotFree(0.0), d.Duplicated("a"))
        assert isinstance(actions[0], d.AskStudy)
    after, actions = step(current, d.Ended("a", EndClass.COMPLETE, 0.0, objective=1.0), d.SlotFree(0.0))

    assert isinstance(actions[-1], d.Finish)
    assert "space exhausted" in (after.closed or "")


def test_confirm_begins_when_the_search_is_over_and_ends_the_sweep() -> None:
    after, actions = step(
        running(trials=1, confirm=True),
        d.Ended("a", EndClass.COMPLETE, 0.0, objective=1.0),
        d.SlotFree(0.0),
        d.Confirmed(("b", "c")),
        d.SlotFree(0.0),
        d.SlotFree(0.0),
        d.Ended("b", EndClass.COMPLETE, 0.0, objective=9.0),
        d.Ended("c", EndClass.COMPLETE, 0.0, objective=9.0),
        d.SlotFree(0.0),
    )

    assert [type(action) for action in actions] == [
        d.Commit, d.PlanConfirm, d.RunTrial, d.RunTrial, d.Commit, d.Commit, d.Finish,
    ]  # fmt: skip
    assert after.best == 1.0


def test_spent_hours_end_the_search_and_let_what_runs_finish() -> None:
    _, actions = step(
        running(seconds=10.0),
        d.SlotFree(0.0),
        d.Suggested("b"),
        d.Ended("a", EndClass.COMPLETE, 0.0, seconds=11.0, objective=1.0),
        d.SlotFree(0.0),
        d.SlotFree(0.0),
    )

    assert [type(action) for action in actions] == [d.AskStudy, d.Commit, d.RunTrial, d.Wait]


def test_a_plateau_ends_the_search() -> None:
    current = state(trials=100, plateau_trials=3, plateau_delta=0.1)
    for turn in range(4):
        name = f"t{turn}"
        current, actions = step(current, d.SlotFree(0.0), d.Suggested(name), d.SlotFree(0.0))
        assert isinstance(actions[0], d.AskStudy)
        current, _ = step(current, d.Ended(name, EndClass.COMPLETE, 0.0, objective=0.5 + turn * 0.01))
    after, actions = step(current, d.SlotFree(0.0))

    assert isinstance(actions[0], d.Finish)
    assert "plateau" in (after.closed or "")
    assert (after.improved, after.best) == (0.5, 0.53)  # what is no improvement may still be the best
