import dataclasses
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cpsc_core.distill.draws import LatentDraws, Latents, seeded
from cpsc_core.distill.presets import PRESETS
from cpsc_core.distill.trainer import EpochReport, Trainer
from cpsc_core.errors import DivergedError, SettingsError, UnknownNameError
from cpsc_core.images import ImageSpec
from cpsc_core.networks.output import Network, Output
from cpsc_core.settings import GeneratorSettings, LossSettings, StudentSettings, TrainSettings

NUM_SAMPLES = 24
IMAGE = ImageSpec(num_classes=4, channels=1, size=16, mean=(0.5,), std=(0.5,))


def settings(**changes: Any) -> TrainSettings:
    small = TrainSettings(
        epochs=3,
        iterations_per_epoch=3,
        batch_size=6,
        generator=GeneratorSettings(latent_dim=5, width=4, steps=2),
        student=StudentSettings(steps=2, lr=0.05),
    )
    return dataclasses.replace(small, **changes)


class Tiny(Network):
    """Two convolutions, so that tests spend their time on what they test."""

    def __init__(self, width: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__(feature_dim=width, size=16)
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2),
            norm(6),
            nn.ReLU(),
            nn.Conv2d(6, width, 3, stride=2),
            norm(width),
            nn.ReLU(),
        )
        self.linear = nn.Linear(width, 4)

    def forward(self, x_BCHW: Tensor) -> Output:
        features_BD = self.body(x_BCHW).mean((2, 3))
        return Output(self.linear(features_BD), features_BD)


def network(seed: int, *, width: int = 8, norm: Callable[[int], nn.Module] = nn.BatchNorm2d) -> Tiny:
    with seeded(seed, "network"):
        return Tiny(width, norm)


def build(train: TrainSettings | None = None, *, teacher: nn.Module | None = None, **options: Any) -> Trainer:
    return Trainer(
        train or settings(), teacher=teacher or network(1), student=network(2), image=IMAGE, **options
    )


def changed(train: TrainSettings, **student: Any) -> TrainSettings:
    """Settings with some of the student's changed."""
    return dataclasses.replace(train, student=dataclasses.replace(train.student, **student))


def count_weights(student: nn.Module) -> Mapping[str, float]:
    return {"val_accuracy": sum(weight.double().abs().sum().item() for weight in student.parameters())}


def through_file(state: Mapping[str, Any]) -> Any:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def stop_after(iterations: int) -> Callable[[], bool]:
    left = iter([False] * iterations)
    return lambda: next(left, True)


def assert_same(one: Any, other: Any) -> None:
    """Equal to the bit, however deep."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, Mapping):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


@pytest.fixture(autouse=True)
def one_thread_and_few_samples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("cpsc_core.distill.trainer.NUM_SAMPLES", NUM_SAMPLES)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# What fit yields


def test_every_epoch_is_reported_once_and_the_last_is_final() -> None:
    trainer = build()

    reports = [(report.epoch, report.final, trainer.epoch) for report in trainer.fit(count_weights)]

    assert reports == [(1, False, 1), (2, False, 2), (3, True, 3)]


def test_a_report_has_the_keys_of_a_metrics_line() -> None:
    (report, *_) = build().fit(count_weights)

    assert set(report.metrics) == {
        "generator_kl",
        "generator_ikd",
        "generator_batch_norm",
        "generator_contrastive",
        "generator_pseudo_label",
        "generator_loss",
        "student_kl",
        "student_ikd",
        "student_pseudo_label",
        "student_loss",
        "student_lr",
        "label_fidelity",
        "val_accuracy",
    }
    assert all(type(value) is float for value in report.metrics.values())


def test_a_finished_run_yields_nothing() -> None:
    trainer = build()
    list(trainer.fit(count_weights))

    assert list(trainer.fit(count_weights)) == []


def test_reported_losses_are_means_over_the_epoch() -> None:
    train = settings(epochs=1)
    trainer, losses = build(train), []
    means = trainer._means["student"]
    add = means.add
    means.add = lambda terms: (losses.append(terms["student_loss"].item()), add(terms))[1]  # type: ignore[method-assign]

    (report,) = trainer.fit(count_weights)

    assert len(losses) == 6
    assert report.metrics["student_loss"] == pytest.approx(sum(losses) / 6)


def test_the_student_is_evaluated_in_eval_mode_and_trains_on_in_train_mode() -> None:
    modes = []

    def evaluate(student: nn.Module) -> Mapping[str, float]:
        modes.append((student.training, torch.is_grad_enabled()))
        return {}

    trainer = build()
    for _ in trainer.fit(evaluate):
        modes += [(trainer.student.training, torch.is_grad_enabled())]

    assert modes == [(False, False), (True, True)] * 3


def test_each_update_is_a_sign_of_life() -> None:
    signs: list[int] = []
    trainer = build(on_step=lambda: signs.append(trainer.iteration))

    list(trainer.fit(count_weights))

    assert signs == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2] * 3


# Both players learn


def test_the_student_learns_to_agree_with_the_teacher() -> None:
    train = settings(
        epochs=8, iterations_per_epoch=5, batch_size=16, student=StudentSettings(steps=4, lr=0.02)
    )
    train = dataclasses.replace(train, generator=GeneratorSettings(latent_dim=5, width=4, steps=1, lr=1e-5))

    reports = list(build(train).fit(count_weights))

    assert reports[-1].metrics["student_kl"] < 0.5 * reports[0].metrics["student_kl"]


def test_the_generator_learns_to_make_images_of_their_class() -> None:
    loss = LossSettings(ikd=0.0, batch_norm=0.0, contrastive=0.0, pseudo_label=20.0)
    generator = GeneratorSettings(latent_dim=5, width=8, steps=6, lr=5e-3)
    train = settings(epochs=4, iterations_per_epoch=10, batch_size=24, loss=loss, generator=generator)

    reports = list(build(train).fit(count_weights))

    assert reports[-1].metrics["label_fidelity"] > 0.6
    assert reports[-1].metrics["generator_pseudo_label"] < reports[0].metrics["generator_pseudo_label"]


@pytest.mark.parametrize("preset", PRESETS)
def test_the_teacher_is_the_same_to_the_bit_after_training(preset: str) -> None:
    trainer = build(settings(preset=preset))
    before = through_file(trainer.teacher.state_dict())

    list(trainer.fit(count_weights))

    assert_same(before, trainer.teacher.state_dict())
    assert all(weight.grad is None and not weight.requires_grad for weight in trainer.teacher.parameters())
    assert not trainer.teacher.training


def test_no_hook_is_left_on_any_network() -> None:
    trainer = build()

    list(trainer.fit(count_weights))

    for part in (trainer.teacher, trainer.student, trainer.generator):
        for layer in part.modules():
            assert not layer._forward_pre_hooks and not layer._forward_hooks and not layer._backward_hooks


@pytest.mark.parametrize(("running_norm", "updates"), [(False, 2 + 2), (True, 2)])
def test_a_setting_decides_whether_generator_steps_move_the_statistics_of_the_student(
    running_norm: bool, updates: int
) -> None:
    trainer = build(changed(settings(epochs=1, iterations_per_epoch=1), running_norm=running_norm))

    list(trainer.fit(count_weights))

    assert trainer.student.get_buffer("body.1.num_batches_tracked").item() == updates


def test_generator_steps_leave_the_weights_of_the_student_alone() -> None:
    trainer = build()
    before = through_file(dict(trainer.student.named_parameters()))

    with trainer._student_held():
        for latents in trainer._latents("generator", 2):
            trainer._update_generator(*latents)

    assert_same(before, dict(trainer.student.named_parameters()))
    assert all(weight.grad is None and weight.requires_grad for weight in trainer.student.parameters())


def test_fresh_adam_moves_every_weight_by_its_learning_rate() -> None:
    trainer = build(settings(preset="faithful"))
    for number in range(3):
        before = trainer.generator.conv3.weight.detach().clone()
        for latents in trainer._latents("generator", 1):
            trainer._update_generator(*latents)
        moved = (trainer.generator.conv3.weight - before).abs()
        assert moved.median().item() == pytest.approx(1e-3, rel=1e-2), number


# Narrow students


@pytest.mark.parametrize("contrastive", [False, True])
def test_the_adapter_learns_only_with_a_contrastive_student_and_is_never_part_of_it(
    contrastive: bool,
) -> None:
    trainer = build(changed(settings(), contrastive=contrastive), teacher=network(1, width=12))
    before = through_file(trainer.adapter.state_dict())

    list(trainer.fit(count_weights))

    learned = any(not torch.equal(before[name], now) for name, now in trainer.adapter.state_dict().items())
    assert learned is contrastive
    assert trainer.student.state_dict().keys() == network(2).state_dict().keys()


# Stopping and resuming


@pytest.mark.parametrize("contrastive", [False, True])
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("stops", [(4,), (3,), (0, 1, 2, 2)], ids=str)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one_to_the_bit(
    preset: str, contrastive: bool, stops: tuple[int, ...]
) -> None:
    train, teacher = changed(settings(preset=preset), contrastive=contrastive), network(1, width=12)
    whole = build(train, teacher=teacher)
    expected = list(whole.fit(count_weights))

    reports: list[EpochReport] = []
    state = through_file(build(train, teacher=teacher).state_dict())
    for stop in (*stops, 99):
        torch.manual_seed(stop)
        part = build(train, teacher=teacher, should_stop=stop_after(stop))
        part.load_state_dict(state)
        reports += part.fit(count_weights)
        state = through_file(part.state_dict())

    assert reports == expected
    assert_same(state, whole.state_dict())


def test_a_state_taken_at_a_report_resumes_at_the_next_epoch() -> None:
    whole = build()
    expected = list(whole.fit(count_weights))
    first = build()
    next(iter(first.fit(count_weights)))

    second = build()
    second.load_state_dict(through_file(first.state_dict()))

    assert list(second.fit(count_weights)) == expected[1:]


def test_a_stop_inside_an_epoch_keeps_the_iterations_that_were_done() -> None:
    trainer = build(should_stop=stop_after(4))

    (report,) = trainer.fit(count_weights)

    assert (report.epoch, trainer.epoch, trainer.iteration) == (1, 1, 1)


def test_training_neither_reads_nor_moves_the_global_random_stream() -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        trainer = build()
        list(trainer.fit(count_weights))
        assert torch.equal(torch.get_rng_state(), before)
        states.append(trainer.state_dict())

    assert_same(*states)


def test_every_step_of_a_run_has_a_batch_of_its_own() -> None:
    own = LatentDraws.of(settings(), IMAGE.num_classes)
    asked = []

    def draws(purpose: str, epoch: int, step: int) -> Latents:
        asked.append((purpose, epoch, step))
        return own(purpose, epoch, step)

    list(build(settings(epochs=2), draws=draws).fit(count_weights))

    one_epoch = [("generator", 0), ("generator", 1), ("student", 0), ("student", 1)]
    one_epoch += [(player, step + 2) for player, step in one_epoch]
    one_epoch += [(player, step + 4) for player, step in one_epoch[:4]]
    assert asked == [(player, epoch, step) for epoch in range(2) for player, step in one_epoch]


def test_another_seed_is_another_run() -> None:
    one, other = (build(settings(seed=seed)) for seed in (0, 1))

    assert not torch.equal(one.generator.linear.weight, other.generator.linear.weight)
    assert next(one.fit(count_weights)).metrics != next(other.fit(count_weights)).metrics


# Samples


def test_samples_are_ordered_by_class_and_do_not_disturb_training() -> None:
    undisturbed, disturbed = build(), build()
    list(undisturbed.fit(count_weights))

    for _ in disturbed.fit(count_weights):
        images_BCHW, labels_B = disturbed.sample()

    assert images_BCHW.shape == (NUM_SAMPLES, 1, 16, 16)
    assert labels_B.tolist() == sorted(labels_B.tolist())
    assert not images_BCHW.requires_grad
    assert_same(disturbed.state_dict(), undisturbed.state_dict())
    assert torch.equal(images_BCHW, disturbed.sample()[0])


# What cannot work


def test_a_loss_that_is_not_finite_ends_the_run_with_its_name_and_epoch() -> None:
    trainer = build(settings(student=StudentSettings(steps=2, lr=1e12)))

    with pytest.raises(DivergedError, match=r"(generator|student)_\w+ stopped being finite in epoch [12]"):
        list(trainer.fit(count_weights))


def test_a_weight_that_is_not_finite_ends_the_run() -> None:
    trainer = build(settings(iterations_per_epoch=1))
    last = iter([False, False, False, True])

    def spoil() -> None:
        if next(last):
            trainer.student.get_parameter("linear.bias").data[0] = torch.inf

    trainer.on_step = spoil

    with pytest.raises(DivergedError, match="a weight of the student stopped being finite in epoch 1"):
        list(trainer.fit(count_weights))


def test_a_teacher_without_batch_norm_is_refused_unless_its_term_is_off() -> None:
    def without_batch_norm(width: int) -> nn.Module:
        return nn.GroupNorm(1, width)

    teacher = network(1, norm=without_batch_norm)

    with pytest.raises(SettingsError, match=r"Tiny has no BatchNorm2d"):
        build(teacher=teacher)

    trainer = build(settings(loss=LossSettings(batch_norm=0.0)), teacher=teacher)
    assert "generator_batch_norm" not in next(trainer.fit(count_weights)).metrics


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="no preset is called 'fixt'"):
        build(settings(preset="fixt"))


# Precision


def test_bf16_keeps_weights_and_losses_in_single_precision() -> None:
    trainer = build(settings(precision="bf16"))

    reports = list(trainer.fit(count_weights))
    exact = list(build().fit(count_weights))

    assert {weight.dtype for weight in trainer.student.parameters()} == {torch.float32}
    assert trainer.sample()[0].dtype == torch.float32
    assert reports[0].metrics["student_kl"] == pytest.approx(exact[0].metrics["student_kl"], rel=0.2)
    assert reports[0].metrics["student_kl"] != exact[0].metrics["student_kl"]


def test_fp16_scales_the_gradients_and_keeps_weights_and_losses_in_single_precision() -> None:
    trainer = build(settings(precision="fp16"))
    for scaler in trainer.precision._scalers.values():  # so low that no update is left out
        scaler.load_state_dict(scaler.state_dict() | {"scale": 256.0})

    reports = list(trainer.fit(count_weights))
    exact = list(build().fit(count_weights))

    assert {weight.dtype for weight in trainer.student.parameters()} == {torch.float32}
    assert reports[0].metrics["student_kl"] == pytest.approx(exact[0].metrics["student_kl"], rel=0.05)
    assert reports[0].metrics["student_kl"] != exact[0].metrics["student_kl"]


def test_an_update_whose_scaled_gradients_overflow_is_left_out_and_the_scale_is_lowered() -> None:
    trainer = build(settings(precision="fp16"))
    scaler = trainer.precision._scalers["student"]
    scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**100})
    before = through_file(dict(trainer.student.named_parameters()))

    for latents in trainer._latents("student", 1):
        trainer._update_student(*latents)

    assert_same(before, dict(trainer.student.named_parameters()))
    assert scaler.get_scale() == 2.0**99


def test_an_interrupted_fp16_run_goes_on_with_the_scale_it_had() -> None:
    train = settings(precision="fp16")
    whole, first, second = (build(train) for _ in range(3))
    for trainer in (whole, first):
        scaler = trainer.precision._scalers["generator"]
        scaler.load_state_dict(scaler.state_dict() | {"scale": 2.0**20})
    expected = list(whole.fit(count_weights))

    reports = [next(iter(first.fit(count_weights)))]
    second.load_state_dict(through_file(first.state_dict()))
    reports += second.fit(count_weights)

    assert reports == expected
    assert_same(second.state_dict(), whole.state_dict())


# Speed and memory


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_recomputing_changes_neither_metrics_nor_weights(precision: str) -> None:
    train = settings(precision=precision)
    usual = build(train)
    of_settings = build(dataclasses.replace(train, recompute=True))
    of_attempt = build(train, recompute=True)

    expected, first, second = (list(each.fit(count_weights)) for each in (usual, of_settings, of_attempt))

    assert expected == first == second
    assert_same(usual.state_dict(), of_settings.state_dict())
    assert_same(usual.state_dict(), of_attempt.state_dict())


def test_student_steps_ask_a_teacher_whose_batch_norm_is_folded() -> None:
    trainer = build()
    images_BCHW, _ = trainer.sample()

    folded = trainer.forward.teacher

    assert isinstance(folded, Tiny) and not any(isinstance(each, nn.BatchNorm2d) for each in folded.modules())
    torch.testing.assert_close(folded(images_BCHW), trainer.teacher(images_BCHW))


@pytest.mark.slow
def test_compiled_networks_have_the_losses_of_plain_ones_and_resume_to_the_bit() -> None:
    train = settings(compile=True)
    plain, whole = build(), build(train)
    expected = list(plain.fit(count_weights))

    reports = list(whole.fit(count_weights))
    first, second = build(train), build(train)
    resumed = [next(iter(first.fit(count_weights)))]
    second.load_state_dict(through_file(first.state_dict()))
    resumed += second.fit(count_weights)

    for ours, theirs in zip(reports, expected, strict=True):
        assert ours.metrics == pytest.approx(theirs.metrics, rel=1e-3)
    assert resumed == reports
    assert_same(second.state_dict(), whole.state_dict())


def test_compiling_and_recomputing_at_once_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"set train\.compile or train\.recompute to false"):
        build(settings(compile=True, recompute=True))


# The moving average of the generator


def averaging(keep: float) -> TrainSettings:
    return settings(epochs=2, generator=GeneratorSettings(latent_dim=5, width=4, steps=2, ema=keep))


def test_samples_are_drawn_from_the_average_of_the_weights_after_every_step() -> None:
    trainer = build(averaging(0.8))
    expected = {name: weight.clone() for name, weight in trainer._trained_generator.named_parameters()}
    update = trainer._update_generator

    def update_and_average(latents_BZ: Tensor, labels_B: Tensor) -> None:
        update(latents_BZ, labels_B)
        for name, weight in trainer._trained_generator.named_parameters():
            expected[name] = 0.8 * expected[name] + 0.2 * weight.detach()

    trainer._update_generator = update_and_average  # type: ignore[method-assign]
    list(trainer.fit(count_weights))

    for name, weight in trainer.generator.named_parameters():
        torch.testing.assert_close(weight.detach(), expected[name])


def test_the_average_changes_no_student_and_survives_a_resumption() -> None:
    plain, whole, first, second = build(averaging(0.0)), *(build(averaging(0.8)) for _ in range(3))
    first.should_stop = stop_after(4)
    (*_, without), (*_, usual) = plain.fit(count_weights), whole.fit(count_weights)

    list(first.fit(count_weights))
    second.load_state_dict(through_file(first.state_dict()))
    (*_, resumed) = second.fit(count_weights)

    assert_same(usual.metrics, resumed.metrics)
    assert_same(whole.state_dict(), second.state_dict())
    assert without.metrics["val_accuracy"] == usual.metrics["val_accuracy"]
    assert not torch.equal(plain.sample()[0], whole.sample()[0])


def test_samples_of_large_images_are_made_in_batches_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer, seen = build(), []
    whole, labels_B = trainer.sample()
    monkeypatch.setattr("cpsc_core.distill.trainer.fitting", lambda count, size: 10)
    trainer.generator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))

    in_batches, same_B = trainer.sample()

    assert torch.equal(labels_B, same_B)
    assert [len(each) for each in seen] == [NUM_SAMPLES / 3] * 3
    assert all(len(each.unique()) == len(labels_B.unique()) for each in seen)
    assert in_batches.shape == whole.shape
    closest = torch.cdist(in_batches.flatten(1), whole.flatten(1)).argmin(1)
    assert (closest == torch.arange(NUM_SAMPLES)).double().mean() > 0.7  # the same noise, other statistics
