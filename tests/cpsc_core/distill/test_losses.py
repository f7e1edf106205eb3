import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from cpsc_core.distill.losses import (
    cross_entropy_on_logits,
    cross_entropy_on_probabilities,
    distillation_kl,
    jensen_shannon,
    log_frobenius,
    log_mse,
    mse,
    relative_distance,
    statistics_distance,
    supervised_contrastive,
)

GOLDEN = dict(np.load(Path(__file__).parents[2] / "golden/loss_terms.npz"))
supcon = partial(supervised_contrastive, temperature=0.07)

LABELLED: Sequence[Callable[[Tensor, Tensor], Tensor]] = [
    cross_entropy_on_logits,
    cross_entropy_on_probabilities,
]
PAIRED: Sequence[Callable[[Tensor, Tensor], Tensor]] = [
    distillation_kl,
    jensen_shannon,
    mse,
    log_mse,
    log_frobenius,
]


def golden(name: str, *, requires_grad: bool = False) -> Tensor:
    tensor = torch.from_numpy(GOLDEN[name])
    return tensor.requires_grad_(requires_grad) if requires_grad else tensor


def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    chance = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=chance, dtype=torch.float64) * scale


def softmax_by_hand(logits: Sequence[float]) -> list[float]:
    top = max(logits)
    exponentials = [math.exp(logit - top) for logit in logits]
    return [each / math.fsum(exponentials) for each in exponentials]


# The released implementation


@pytest.mark.parametrize(
    ("name", "term", "inputs"),
    [
        ("kl", distillation_kl, ("student_logits", "teacher_logits")),
        ("mse", mse, ("student_logits", "teacher_logits")),
        ("log_mse", log_mse, ("student_logits", "teacher_logits")),
        ("log_frobenius", log_frobenius, ("student_logits", "teacher_logits")),
        ("ce_on_probs_teacher", cross_entropy_on_probabilities, ("teacher_logits", "labels")),
        ("ce_on_probs_student", cross_entropy_on_probabilities, ("student_logits", "labels")),
        ("supcon", supcon, ("student_features", "teacher_features", "labels")),
        ("bn_statistics", statistics_distance, ("bn_input", "bn_running_mean", "bn_running_var")),
    ],
)
def test_a_term_equals_the_released_one_in_value_and_gradient(
    name: str, term: Callable[..., Tensor], inputs: Sequence[str]
) -> None:
    graded = [each for each in inputs if f"{name}.grad.{each}" in GOLDEN]
    arguments = {each: golden(each, requires_grad=each in graded) for each in inputs}

    value = term(*arguments.values())
    gradients = torch.autograd.grad(value, [arguments[each] for each in graded])

    assert value.item() == pytest.approx(GOLDEN[name].item(), abs=1e-10, rel=0)
    for each, gradient in zip(graded, gradients, strict=True):
        np.testing.assert_allclose(gradient, GOLDEN[f"{name}.grad.{each}"], rtol=0, atol=1e-10)


# The sums in the papers, added up by hand


@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10))
@settings(max_examples=15, deadline=None)
def test_kl_is_the_double_sum_over_batch_and_classes(seed: int, scale: float) -> None:
    student_BC, teacher_BC = draw(seed, 5, 4, scale=scale), draw(seed + 1, 5, 4, scale=scale)

    by_hand = math.fsum(
        p * math.log(p / q)
        for student, teacher in zip(student_BC.tolist(), teacher_BC.tolist(), strict=True)
        for q, p in zip(softmax_by_hand(student), softmax_by_hand(teacher), strict=True)
    )

    assert distillation_kl(student_BC, teacher_BC).item() == pytest.approx(by_hand / 5)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_squared_distances_are_sums_over_all_logits(seed: int) -> None:
    student_BC, teacher_BC = draw(seed, 5, 4), draw(seed + 1, 5, 4)

    pairs = zip(student_BC.flatten().tolist(), teacher_BC.flatten().tolist(), strict=True)
    squared = math.fsum((s - t) ** 2 for s, t in pairs)

    assert mse(student_BC, teacher_BC).item() == pytest.approx(squared / 20)
    assert log_mse(student_BC, teacher_BC).item() == pytest.approx(math.log(squared / 20))
    assert log_frobenius(student_BC, teacher_BC).item() == pytest.approx(math.log(math.sqrt(squared)))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_cross_entropies_are_mean_surprises(seed: int) -> None:
    logits_BC, labels = draw(seed, 5, 4, scale=3), [0, 3, 1, 1, 2]
    labels_B = torch.tensor(labels)

    once = [softmax_by_hand(logits) for logits in logits_BC.tolist()]
    twice = [softmax_by_hand(probabilities) for probabilities in once]

    for term, probabilities in ((cross_entropy_on_logits, once), (cross_entropy_on_probabilities, twice)):
        surprises = [-math.log(row[label]) for row, label in zip(probabilities, labels, strict=True)]
        assert term(logits_BC, labels_B).item() == pytest.approx(math.fsum(surprises) / 5)


@given(seed=st.integers(0, 10**6), labels=st.lists(st.integers(0, 2), min_size=2, max_size=6))
@settings(max_examples=25, deadline=None)
def test_supervised_contrast_is_the_sum_over_anchors_positives_and_others(
    seed: int, labels: list[int]
) -> None:
    student_BD, teacher_BD = draw(seed, len(labels), 3), draw(seed + 1, len(labels), 3)

    value = supervised_contrastive(student_BD, teacher_BD, torch.tensor(labels), temperature=0.5)

    assert value.item() == pytest.approx(
        contrast_by_hand([*student_BD.tolist(), *teacher_BD.tolist()], labels * 2, 0.5)
    )


def contrast_by_hand(features: list[list[float]], labels: list[int], temperature: float) -> float:
    def similarity(a: int, b: int) -> float:
        return math.fsum(x * y for x, y in zip(features[a], features[b], strict=True)) / temperature

    losses = []
    for anchor in range(len(features)):
        others = [each for each in range(len(features)) if each != anchor]
        positives = [each for each in others if labels[each] == labels[anchor]]
        total = math.fsum(math.exp(similarity(anchor, each)) for each in others)
        terms = [math.log(math.exp(similarity(anchor, each)) / total) for each in positives]
        losses.append(-math.fsum(terms) / len(positives))
    return math.fsum(losses) / len(losses)


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_the_statistics_distance_adds_the_norms_over_channels(seed: int) -> None:
    x_BCHW, mean_C, var_C = draw(seed, 3, 2, 2, 2), draw(seed + 1, 2), draw(seed + 2, 2).abs()

    off_mean, off_var = [], []
    for channel in range(2):
        pixels = x_BCHW[:, channel].flatten().tolist()
        mean = math.fsum(pixels) / 12
        off_mean.append(mean - mean_C[channel].item())
        off_var.append(math.fsum((pixel - mean) ** 2 for pixel in pixels) / 12 - var_C[channel].item())

    by_hand = math.hypot(*off_mean) + math.hypot(*off_var)
    assert statistics_distance(x_BCHW, mean_C, var_C).item() == pytest.approx(by_hand)


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([0.1, 1.0, 30.0]))
@settings(max_examples=10, deadline=None)
def test_the_jensen_shannon_divergence_is_scipys_and_symmetric(seed: int, scale: float) -> None:
    student_BC, teacher_BC = draw(seed, 5, 4, scale=scale), draw(seed + 1, 5, 4, scale=scale)

    root_B = jensenshannon(student_BC.softmax(1).numpy(), teacher_BC.softmax(1).numpy(), axis=1)

    divergence = jensen_shannon(student_BC, teacher_BC).item()
    assert divergence == pytest.approx((root_B**2).mean())
    assert divergence == pytest.approx(jensen_shannon(teacher_BC, student_BC).item())


@given(seed=st.integers(0, 10**6), factor=st.floats(0.01, 100))
@settings(max_examples=10, deadline=None)
def test_the_relative_distance_does_not_see_the_scale_of_a_layer(seed: int, factor: float) -> None:
    mean_C, var_C = draw(seed, 3), draw(seed + 1, 3).abs()
    running_mean_C, running_var_C = draw(seed + 2, 3), draw(seed + 3, 3).abs()
    off_mean = math.hypot(*(mean_C - running_mean_C).tolist())
    off_var = math.hypot(*(var_C - running_var_C).tolist())

    distance = relative_distance(mean_C, var_C, running_mean_C, running_var_C)

    by_hand = off_mean / math.sqrt(math.fsum(running_var_C)) + off_var / math.hypot(*running_var_C.tolist())
    assert distance.item() == pytest.approx(by_hand)
    scaled = relative_distance(
        factor * mean_C, factor**2 * var_C, factor * running_mean_C, factor**2 * running_var_C
    )
    assert scaled.item() == pytest.approx(distance.item())


# Values worked out once with the released code, cut after six digits

TEACHER = torch.tensor([[2, 0, -1], [0, 1, 0], [1, 1, -2], [-1, 0, 3]]).double()
STUDENT = torch.tensor([[1, 0.5, 0], [0, 0, 0], [2, -1, 0], [0, 1, 1]]).double()
LABELS = torch.tensor([0, 1, 0, 2])
STUDENT_FEATURES = torch.nn.functional.normalize(torch.tensor([[1, 0], [0, 1], [1, 1], [-1, 0.5]]).double())
TEACHER_FEATURES = torch.nn.functional.normalize(
    torch.tensor([[1, 0.2], [0.1, 1], [1, 0.5], [-1, -1]]).double()
)
IMAGES = torch.arange(16).double().reshape(2, 2, 2, 2) / 4


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (distillation_kl(STUDENT, TEACHER), 0.468653),
        (mse(STUDENT, TEACHER), 1.520833),
        (log_mse(STUDENT, TEACHER), 0.419258),
        (log_frobenius(STUDENT, TEACHER), 1.452083),
        (cross_entropy_on_probabilities(TEACHER, LABELS), 0.772180),
        (cross_entropy_on_probabilities(STUDENT, LABELS), 0.927006),
        (cross_entropy_on_logits(TEACHER, LABELS), 0.376228),
        (cross_entropy_on_logits(STUDENT, LABELS), 0.702681),
        (supcon(STUDENT_FEATURES, TEACHER_FEATURES, LABELS), 1.110209),
        (
            statistics_distance(IMAGES, torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, 0.5]).double()),
            1.113710,
        ),
    ],
)
def test_a_term_has_the_printed_value(value: Tensor, expected: float) -> None:
    assert value.item() == pytest.approx(expected, abs=1e-6)


# Properties


@pytest.mark.parametrize("term", PAIRED)
def test_terms_between_logits_have_the_gradients_of_finite_differences(
    term: Callable[[Tensor, Tensor], Tensor],
) -> None:
    student_BC, teacher_BC = draw(1, 3, 4).requires_grad_(), draw(2, 3, 4).requires_grad_()

    assert torch.autograd.gradcheck(term, (student_BC, teacher_BC))


def test_the_statistics_distance_has_the_gradient_of_finite_differences() -> None:
    x_BCHW = draw(1, 3, 2, 3, 3).requires_grad_()

    assert torch.autograd.gradcheck(statistics_distance, (x_BCHW, draw(2, 2), draw(3, 2)))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_kl_is_never_negative_and_zero_for_shifted_logits(seed: int) -> None:
    student_BC, teacher_BC = draw(seed, 5, 4), draw(seed + 1, 5, 4)

    assert distillation_kl(student_BC, teacher_BC) > 0
    assert distillation_kl(teacher_BC + 3, teacher_BC).item() == pytest.approx(0, abs=1e-12)


def test_the_jensen_shannon_divergence_of_networks_that_fully_disagree_is_log_2_and_flat() -> None:
    student_BC = (100 * torch.eye(4).double()).requires_grad_()

    divergence = jensen_shannon(student_BC, 100 * torch.eye(4).double().roll(1, 0))
    divergence.backward()

    assert divergence.item() == pytest.approx(math.log(2))
    assert student_BC.grad is not None and student_BC.grad.abs().max() < 1e-12


@given(seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_the_order_of_a_batch_changes_no_contrast(seed: int) -> None:
    student_BD, teacher_BD = draw(seed, 6, 3), draw(seed + 1, 6, 3)
    labels_B = torch.tensor([0, 1, 2, 0, 1, 0])
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))

    shuffled = supcon(student_BD[order], teacher_BD[order], labels_B[order])

    torch.testing.assert_close(shuffled, supcon(student_BD, teacher_BD, labels_B))


@pytest.mark.parametrize("term", [*PAIRED, *LABELLED], ids=lambda term: term.__name__)
@pytest.mark.parametrize("scale", [1e3, 1e4])
def test_terms_stay_finite_for_huge_logits(term: Callable[[Tensor, Tensor], Tensor], scale: float) -> None:
    student_BC = (draw(1, 6, 4, scale=scale)).float().requires_grad_()
    other = torch.tensor([0, 1, 2, 3, 0, 1]) if term in LABELLED else draw(2, 6, 4, scale=scale).float()

    value = term(student_BC, other)
    value.backward()

    assert value.isfinite()
    assert student_BC.grad is not None and student_BC.grad.isfinite().all()


def test_contrast_stays_finite_for_huge_features() -> None:
    student_BD = draw(1, 6, 4, scale=1e3).float().requires_grad_()

    value = supcon(student_BD, draw(2, 6, 4, scale=1e3).float(), torch.tensor([0, 1, 2, 0, 1, 0]))
    value.backward()

    assert value.isfinite()
    assert student_BD.grad is not None and student_BD.grad.isfinite().all()


@pytest.mark.parametrize("term", [log_mse, log_frobenius])
def test_the_logarithm_of_no_distance_is_finite_and_flat(term: Callable[[Tensor, Tensor], Tensor]) -> None:
    teacher_BC = draw(1, 6, 4)
    student_BC = teacher_BC.clone().requires_grad_()

    value = term(student_BC, teacher_BC)
    value.backward()

    assert value.isfinite()
    assert student_BC.grad is not None and student_BC.grad.count_nonzero() == 0


def test_statistics_that_match_have_no_slope() -> None:
    x_BCHW = draw(1, 3, 2, 3, 3)
    var_C, mean_C = torch.var_mean(x_BCHW, dim=(0, 2, 3), correction=0)
    x_BCHW.requires_grad_()

    statistics_distance(x_BCHW, mean_C, var_C).backward()

    assert x_BCHW.grad is not None and x_BCHW.grad.isfinite().all()
