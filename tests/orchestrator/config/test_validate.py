from __future__ import annotations

from collections.abc import Callable


def test_everything_that_is_wrong_is_reported_at_once_in_the_order_of_the_file(
    refusal: Callable[..., list[str]],
) -> None:
    text = """\
name: Toy
data: {nam: digits}
teacher: {arch: resnet21}
student: {arch: resnet8, depth: 3}
train:
  epochs: 1e3
  methd: cpsc
  preset: broken
search:
  loss.ikd: {low: 3, high: 1}
  loss.batch_norm: {low: 1}
  loss.x: {low: 1, high: 2}
pruner: {name: median, min_epochs: 5000}
objective: {metric: accuracy}
budget: {trials: many}
"""

    lines = refusal(text)

    assert [line.split(": ")[:2] for line in lines] == [
        ["x.yaml:1", "name"],
        ["x.yaml:2", "data.name"],
        ["x.yaml:2", "data.nam"],
        ["x.yaml:3", "teacher.arch"],
        ["x.yaml:4", "student.depth"],
        ["x.yaml:6", "train.epochs"],
        ["x.yaml:7", "train.methd"],
        ["x.yaml:8", "train.preset"],
        ["x.yaml:10", "search.loss.ikd.low"],
        ["x.yaml:11", "search.loss.batch_norm.high"],
        ["x.yaml:12", "search.loss.x"],
        ["x.yaml:14", "objective.metric"],
        ["x.yaml:15", "budget.trials"],
    ]


def test_of_thousands_of_mistakes_the_first_hundred_are_told(
    refusal: Callable[..., list[str]], valid: str
) -> None:
    for text in (
        valid + "".join(f"nam{n}: 1\n" for n in range(4000)),
        valid.replace("generator.steps:", "\n  ".join(f"loss.x{n}: 1" for n in range(4000)) + "\n  x:"),
        valid.replace("epochs: 9", "\n  ".join(f"epoch{n}: 9" for n in range(4000))),
    ):
        assert len(refusal(text)) == 100


def test_a_value_that_could_not_be_read_is_not_judged_by_its_default(
    refusal_of_line: Callable[[int, str], list[str]],
) -> None:
    lines = refusal_of_line(6, "  epochs: one")

    assert lines == ["x.yaml:6: train.epochs: must be a whole number, but is 'one'"]


def test_a_wrong_key_does_not_hide_that_the_pruner_prunes_nothing(
    refusal_of_line: Callable[[int, str], list[str]],
) -> None:
    lines = refusal_of_line(6, "  epochs: 1\n  epoch: 9")

    assert [line.split(": ")[1] for line in lines] == ["train.epoch", "pruner.min_epochs"]


def test_a_search_space_without_entries_is_told_from_one_of_wrong_entries(
    refusal: Callable[..., list[str]], valid: str
) -> None:
    head = valid.partition("search:")[0]

    assert refusal(f"{head}search:\n  loss.ikd: 3\n") == [
        "x.yaml:9: search.loss.ikd: must be a mapping, but is 3"
    ]
    assert refusal(f"{head}search: 3\n") == ["x.yaml:8: search: must be a mapping, but is 3"]
    assert refusal(f"{head}search: {{}}\n") == ["x.yaml:8: search: must not be empty"]


def test_what_an_experiment_needs_is_named_when_the_file_is_almost_empty(
    refusal: Callable[..., list[str]],
) -> None:
    lines = refusal("{}\n")

    required = ["name", "data", "teacher", "student", "train", "search"]
    assert lines == [f"x.yaml:1: {name}: is missing, and it has no default" for name in required]
