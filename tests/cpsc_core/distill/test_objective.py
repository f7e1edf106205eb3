import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpsc_core.distill.losses import jensen_shannon, relative_distance, remembered_distance
from cpsc_core.distill.objective import Objective
from cpsc_core.distill.presets import PRESETS
from cpsc_core.errors import UnknownNameError
from cpsc_core.networks.output import Output
from cpsc_core.settings import LossSettings
from cpsc_core.tables import LOSSES

TEACHER = Output(
    torch.tensor([[2, 0, -1], [0, 1, 0], [1, 1, -2], [-1, 0, 3]]).double(),
    torch.tensor([[1, 0.2], [0.1, 1], [1, 0.5], [-1, -1]]).double(),
)
STUDENT = Output(
    torch.tensor([[1, 0.5, 0], [0, 0, 0], [2, -1, 0], [0, 1, 1]]).double(),
    torch.tensor([[1, 0], [0, 1], [1, 1], [-1, 0.5]]).double(),
)
LABELS_B = torch.tensor([0, 1, 0, 2])
FAITHFUL = PRESETS["faithful"]


BATCH_NORM = torch.tensor(1.113710).double()


def objective(**loss: object) -> Objective:
    return Objective(LossSettings(**loss), FAITHFUL, nn.Identity())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ikd_form", "generator", "student"), [("mse", -5.641437, 8.721724), ("log_mse", -0.133563, 8.377970)]
)
def test_both_players_have_the_printed_losses(ikd_form: str, generator: float, student: float) -> None:
    both = objective(ikd_form=ikd_form)

    generator_terms = both.generator(STUDENT, TEACHER, LABELS_B, BATCH_NORM)
    student_terms = both.student(STUDENT, TEACHER, LABELS_B)

    assert generator_terms["generator_loss"].item() == pytest.approx(generator, abs=2e-6)
    assert student_terms["student_loss"].item() == pytest.approx(student, abs=2e-6)


def test_terms_are_named_as_they_are_logged() -> None:
    both = objective()

    assert set(both.generator(STUDENT, TEACHER, LABELS_B, BATCH_NORM)) == {
        "generator_kl",
        "generator_ikd",
        "generator_pseudo_label",
        "generator_batch_norm",
        "generator_contrastive",
        "generator_loss",
    }
    assert set(both.student(STUDENT, TEACHER, LABELS_B)) == {
        "student_kl",
        "student_ikd",
        "student_pseudo_label",
        "student_loss",
    }


def test_a_costly_term_without_weight_is_left_out() -> None:
    terms = objective(contrastive=0.0, batch_norm=0.0).generator(STUDENT, TEACHER, LABELS_B, None)

    assert "generator_contrastive" not in terms
    assert "generator_batch_norm" not in terms


def test_the_generator_feels_the_teacher_through_kl_and_not_through_the_distance() -> None:
    logits_BC = TEACHER.logits_BC.clone().requires_grad_()
    teacher = Output(logits_BC, TEACHER.features_BD)
    terms = objective(contrastive=0.0).generator(STUDENT, teacher, LABELS_B, None)

    (through_kl,) = torch.autograd.grad(terms["generator_kl"], logits_BC, retain_graph=True)
    through_distance = torch.autograd.grad(
        terms["generator_ikd"] + 0 * logits_BC.sum(), logits_BC, retain_graph=True
    )[0]

    assert through_kl.abs().sum() > 0
    assert through_distance.count_nonzero() == 0


def test_features_are_normalised_before_they_are_adapted_and_compared() -> None:
    seen = []

    class Adapter(nn.Module):
        def forward(self, features_BD: Tensor) -> Tensor:
            seen.append(features_BD)
            return features_BD

    both = Objective(LossSettings(), FAITHFUL, Adapter())
    longer = Output(STUDENT.logits_BC, 7 * STUDENT.features_BD)
    terms = both.generator(longer, TEACHER, LABELS_B, None)

    assert terms["generator_contrastive"].item() == pytest.approx(1.110209, abs=1e-6)
    torch.testing.assert_close(seen[0], F.normalize(STUDENT.features_BD))


def test_the_student_is_contrasted_only_if_that_is_asked_for() -> None:
    alone = Objective(LossSettings(contrastive=0.7), FAITHFUL, nn.Identity())
    both = Objective(LossSettings(contrastive=0.7), FAITHFUL, nn.Identity(), student_contrastive=True)

    assert "student_contrastive" not in alone.student(STUDENT, TEACHER, LABELS_B)

    terms = both.student(STUDENT, TEACHER, LABELS_B)

    assert terms["student_contrastive"].item() == pytest.approx(1.110209, abs=1e-6)
    assert terms["student_loss"].item() == pytest.approx(8.721724 + 0.7 * 1.110209, abs=2e-6)


def test_a_function_in_the_table_of_losses_is_the_distance_of_both_players(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(LOSSES._entries, "l1", "torch.nn.functional:l1_loss")
    apart = F.l1_loss(STUDENT.logits_BC, TEACHER.logits_BC).item()

    both = Objective(LossSettings(ikd_form="l1"), FAITHFUL, nn.Identity())

    assert both.generator(STUDENT, TEACHER, LABELS_B, None)["generator_ikd"].item() == pytest.approx(apart)
    assert both.student(STUDENT, TEACHER, LABELS_B)["student_ikd"].item() == pytest.approx(apart)


def test_a_distance_that_nobody_knows_is_refused_with_the_table() -> None:
    with pytest.raises(UnknownNameError, match=r"no loss .* 'mes'; there are log_mse, mse; nearest: mse"):
        objective(ikd_form="mes")


def test_the_fixed_preset_takes_the_softmax_once() -> None:
    both = Objective(LossSettings(), PRESETS["fixed"], nn.Identity())

    terms = both.student(STUDENT, TEACHER, LABELS_B)

    assert terms["student_pseudo_label"].item() == pytest.approx(0.702681, abs=1e-6)


def test_the_strong_generator_climbs_what_is_bounded_and_its_student_believes_the_teacher_alone() -> None:
    settings = LossSettings(ikd=3.0, batch_norm=0.5, contrastive=0.0, pseudo_label=0.25)
    both = Objective(settings, PRESETS["strong"], nn.Identity())

    generator_terms = both.generator(STUDENT, TEACHER, LABELS_B, BATCH_NORM)
    student_terms = both.student(STUDENT, TEACHER, LABELS_B)

    divergence = jensen_shannon(STUDENT.logits_BC, TEACHER.logits_BC).item()
    assert generator_terms["generator_ikd"].item() == pytest.approx(divergence)
    assert generator_terms["generator_loss"].item() == pytest.approx(
        -3.0 * divergence + 0.5 * 1.113710 + 0.25 * 0.376228, abs=2e-6
    )
    assert set(student_terms) == {"student_kl", "student_ikd", "student_loss"}
    assert student_terms["student_loss"].item() == pytest.approx(0.468653 + 3.0 * 1.520833, abs=2e-6)


@pytest.mark.parametrize(
    ("preset", "distance"), [("fixed", remembered_distance), ("strong", relative_distance)]
)
def test_the_preset_decides_how_statistics_are_compared(preset: str, distance: object) -> None:
    assert Objective(LossSettings(), PRESETS[preset], nn.Identity()).batch_norm_distance is distance
