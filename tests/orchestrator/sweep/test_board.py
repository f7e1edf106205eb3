from pathlib import Path

from orchestrator.controller.controller import Controller
from orchestrator.store.records import EndClass, TrialState
from orchestrator.sweep.board import Drawing, Pace
from tests.support.simulator import Simulator, experiment, run


def test_a_board_shows_every_trial_with_its_newest_epoch(tmp_path: Path) -> None:
    controller = run(experiment(), tmp_path / "toy", Simulator())
    board = Drawing(controller, Pace(lambda: 0.0, 1)).board()

    assert board.stage == "confirm"
    assert len(board.rows) == 12
    assert board.counts == {TrialState.COMPLETE: 2}
    assert board.planned == 2
    assert board.best == controller.state.best
    for row in board.rows:
        assert row.epoch == controller.newest[row.name]["epoch"]
        assert row.objective == controller.newest[row.name]["val_accuracy"]


def test_a_pruned_and_a_failed_trial_say_why(tmp_path: Path) -> None:
    first = run(experiment(), tmp_path / "first", Simulator())
    victim = next(trial.name for trial in first.state.trials.values() if trial.number == 1)
    controller = run(experiment(), tmp_path / "toy", Simulator(faults={victim: [(1, EndClass.ERROR)]}))
    causes = {row.state: row.cause for row in Drawing(controller, Pace(lambda: 0.0, 1)).board().rows}

    assert causes[TrialState.FAILED] == "error: injected"
    assert causes[TrialState.PRUNED] == "pruned after epoch 1 by successive_halving"
    assert not causes[TrialState.COMPLETE]


def test_time_left_is_unknown_until_the_pace_is_and_then_shrinks_to_nothing(tmp_path: Path) -> None:
    guesses: list[float | None] = []

    class Watched(Simulator):
        def _advance(self, orders: Controller, assignment: object) -> bool:
            pace.hear_epoch()
            guesses.append(Drawing(orders, pace).board().seconds_left)
            return super()._advance(orders, assignment)  # type: ignore[arg-type]

    simulator = Watched()
    pace = Pace(lambda: simulator.clock, 1)
    controller = run(experiment("confirm.top=0", "pruner.name=none"), tmp_path / "toy", simulator)

    known = [guess for guess in guesses if guess is not None]
    assert guesses[0] is None
    assert known[0] > known[len(known) // 2] > known[-1] >= 0
    assert Drawing(controller, pace).board().seconds_left == 0


def test_rows_of_trials_that_have_not_changed_are_drawn_once(tmp_path: Path) -> None:
    controller = run(experiment(), tmp_path / "toy", Simulator())
    drawing = Drawing(controller, Pace(lambda: 0.0, 1))
    before = {row.name: row for row in drawing.board().rows}
    changed = next(iter(before))
    controller.newest[changed] = controller.newest[changed] | {"epoch": 77}

    after = {row.name: row for row in drawing.board().rows}

    assert after[changed].epoch == 77
    assert all(after[name] is row for name, row in before.items() if name != changed)


def test_a_finished_trial_shows_what_it_is_ranked_by(tmp_path: Path) -> None:
    config = experiment("objective.of=mean5", "pruner.name=none", "confirm.top=0")
    controller = run(config, tmp_path / "toy", Simulator())
    again = run(config, tmp_path / "toy", Simulator())

    for each in (controller, again):
        rows = Drawing(each, Pace(lambda: 0.0, 1)).board().rows
        assert max(row.objective or 0.0 for row in rows) == each.state.best
        assert all(row.objective != each.newest[row.name]["val_accuracy"] for row in rows)


def test_suggestions_that_named_an_existing_trial_are_not_waited_for(tmp_path: Path) -> None:
    overrides = ("budget.trials=40", "sampler.name=random", "confirm.top=0", "pruner.name=none")
    config = experiment(*overrides, space="{generator.steps: {choices: [1, 2]}}")

    board = Drawing(run(config, tmp_path / "toy", Simulator()), Pace(lambda: 0.0, 1)).board()

    assert (len(board.rows), board.planned) == (2, 2)


def test_while_the_search_is_open_duplicates_are_no_trials_to_come(tmp_path: Path) -> None:
    overrides = ("budget.trials=40", "sampler.name=random", "confirm.top=0", "pruner.name=none")
    config = experiment(*overrides, space="{generator.steps: {choices: [1, 2, 3]}}")
    planned: list[int] = []

    class Watched(Simulator):
        def _advance(self, orders: Controller, assignment: object) -> bool:
            board = Drawing(orders, Pace(lambda: 0.0, 1)).board()
            duplicates = orders.state.suggestions - len(board.rows)
            planned.append(board.planned + duplicates)
            assert orders.state.closed is None
            return super()._advance(orders, assignment)  # type: ignore[arg-type]

    run(config, tmp_path / "toy", Watched())

    assert set(planned) == {40}
