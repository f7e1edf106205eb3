import errno
import os

import pytest
from ray.exceptions import RayTaskError

from cpsc_core.errors import (
    AttemptError,
    CheckpointError,
    DataError,
    DivergedError,
    RankError,
    TeacherError,
)
from orchestrator.errors import UnreachableError
from orchestrator.store.records import EndClass
from orchestrator.trial.failure import (
    GangLostError,
    HangError,
    MemoryShortError,
    PreemptedError,
    classify,
    describe,
    trace,
)


class OutOfMemoryError(RuntimeError):
    """Named as torch names its own; the driver knows it by that name."""


@pytest.mark.parametrize(
    ("error", "ended"),
    [
        (DivergedError("generator_kl", 3), EndClass.DIVERGED),
        (DataError("no such file"), EndClass.DATA),
        (TeacherError("no such file"), EndClass.DATA),
        (CheckpointError("another digest"), EndClass.DATA),
        (MemoryError(), EndClass.OUT_OF_MEMORY),
        (OutOfMemoryError("CUDA"), EndClass.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory"), EndClass.OUT_OF_MEMORY),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), EndClass.OUT_OF_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), EndClass.OUT_OF_MEMORY),
        (MemoryShortError("the kernel killed a rank"), EndClass.OUT_OF_MEMORY),
        (PreemptedError("drained"), EndClass.PREEMPTED),
        (AttemptError("attempt 2 was begun before"), EndClass.INFRASTRUCTURE),
        (OSError(errno.ENOSPC, "No space left on device"), EndClass.INFRASTRUCTURE),
        (OSError(errno.ENOENT, "No such file"), EndClass.ERROR),
        (GangLostError("a rank died"), EndClass.INFRASTRUCTURE),
        (RankError("lost the others"), EndClass.INFRASTRUCTURE),
        (UnreachableError("s3://runs/a cannot be used"), EndClass.INFRASTRUCTURE),
        (HangError("silence"), EndClass.HANG),
        (ValueError("a bug"), EndClass.ERROR),
    ],
)
def test_each_failure_has_the_class_that_decides_about_another_attempt(
    error: Exception, ended: EndClass
) -> None:
    assert classify(error) is ended


@pytest.mark.parametrize(
    ("number", "ended"),
    [
        (errno.ENOSPC, EndClass.INFRASTRUCTURE),
        (errno.ENOMEM, EndClass.OUT_OF_MEMORY),
        (errno.ENOENT, EndClass.ERROR),
    ],
)
def test_what_another_process_raised_is_judged_and_told_as_if_it_had_been_raised_here(
    number: int, ended: EndClass
) -> None:
    cause = OSError(number, os.strerror(number))
    raised = RayTaskError("start", "Traceback", cause, "rank", 1, "10.0.0.1").as_instanceof_cause()

    assert classify(raised) is ended
    assert describe(raised) == describe(cause)


def test_torch_names_its_out_of_memory_error_as_we_expect() -> None:
    import torch

    assert (
        classify(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
        is EndClass.OUT_OF_MEMORY
    )


def test_a_cause_is_one_line() -> None:
    assert describe(ValueError("first\nsecond")) == "ValueError: first second"
    assert describe(KeyError()) == "KeyError: KeyError"
    diverged = DivergedError("student_loss", 2)

    assert describe(diverged) == str(diverged)
    assert str(diverged).startswith("student_loss stopped being finite in epoch 2; ")


def test_what_happened_elsewhere_is_told_in_words_and_has_no_trace() -> None:
    for error in (GangLostError("x"), HangError("x"), MemoryShortError("x"), PreemptedError("x")):
        assert describe(error) == "x"
        assert trace(error) == []


def test_what_happened_here_has_one() -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        lines = trace(error)

    assert lines[0].startswith("Traceback")
    assert lines[-1] == "ValueError: no"
