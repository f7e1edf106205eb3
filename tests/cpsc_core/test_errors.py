import inspect
import pickle

import pytest

from cpsc_core import errors
from cpsc_core.errors import CoreError, DivergedError

EVERY = [each for _, each in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("error", EVERY)
def test_every_error_derives_from_the_base_and_stands_in_the_tree(error: type[Exception]) -> None:
    assert issubclass(error, CoreError)
    assert error.__name__ in (errors.__doc__ or "")


def test_a_divergence_names_the_term_and_the_epoch() -> None:
    error = DivergedError("student_kl", 3)

    assert str(error) == (
        "student_kl stopped being finite in epoch 3; lower a learning rate or a loss weight"
    )
    assert (error.term, error.epoch) == ("student_kl", 3)


def test_a_divergence_reaches_another_process_as_it_is() -> None:
    error = pickle.loads(pickle.dumps(DivergedError("student_kl", 3)))  # noqa: S301

    assert (str(error), error.term, error.epoch) == (str(DivergedError("student_kl", 3)), "student_kl", 3)
