import pytest

from orchestrator.objective import Objective, objective_of


@pytest.mark.parametrize("noted", [{}, {"objective": None}, {"objective": {"metric": "val_accuracy"}}])
def test_a_manifest_that_says_less_means_the_defaults(noted: dict[str, object]) -> None:
    assert objective_of(noted) == Objective()


def test_of_several_objectives_the_first_is_ranked_by() -> None:
    noted = [{"metric": "teacher_agreement", "direction": "maximize"}, {"metric": "seconds"}]

    assert objective_of({"objective": noted}).metric == "teacher_agreement"
