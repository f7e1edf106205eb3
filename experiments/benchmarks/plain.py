"""CPSC-DFKD written down as one would from the paper: the yardstick of `step.py`, not part of the product.

Nothing is frozen, everything is fp32 and contiguous, the hooks on the teacher's batch norm are always on, the
generator doubles its maps before it convolves them, and Adam is made anew for each step, as the released code
does. Networks, weights, draws and losses are those of `preset: faithful`, so that both can be compared.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cpsc_core.images import ImageSpec
from cpsc_core.settings import GeneratorSettings, LossSettings

__all__ = ["PlainGenerator", "PlainLoop"]


class _ConditionalNorm(nn.Module):
    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(width, eps=1e-3, affine=False)
        self.scale = nn.Embedding(num_classes, width)
        self.shift = nn.Embedding(num_classes, width)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        scale, shift = self.scale(labels)[:, :, None, None], self.shift(labels)[:, :, None, None]
        y: Tensor = scale * self.norm(x) + shift
        return y


class PlainGenerator(nn.Module):
    """The generator of the paper, parameter for parameter the product's."""

    def __init__(self, settings: GeneratorSettings, image: ImageSpec) -> None:
        super().__init__()
        width, num_classes = settings.width, image.num_classes
        self.start_size = image.size // 4
        self.linear = nn.Linear(settings.latent_dim, 2 * width * self.start_size**2)
        self.conv1 = nn.Conv2d(2 * width, 2 * width, 3, padding=1)
        self.conv2 = nn.Conv2d(2 * width, width, 3, padding=1)
        self.conv3 = nn.Conv2d(width, image.channels, 3, padding=1)
        self.norm0 = _ConditionalNorm(2 * width, num_classes)
        self.norm1 = _ConditionalNorm(2 * width, num_classes)
        self.norm2 = _ConditionalNorm(width, num_classes)
        self.norm3 = _ConditionalNorm(image.channels, num_classes)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        """Images, one per latent vector."""
        x = self.linear(latents).view(len(latents), -1, self.start_size, self.start_size)
        x = F.interpolate(self.norm0(x, labels), scale_factor=2)
        x = F.leaky_relu(self.norm1(self.conv1(x), labels), 0.2)
        x = F.interpolate(x, scale_factor=2)
        x = F.leaky_relu(self.norm2(self.conv2(x), labels), 0.2)
        images: Tensor = self.norm3(torch.tanh(self.conv3(x)), labels)
        return images


class PlainLoop:
    """One teacher, one student, one generator, and the two steps of the algorithm."""

    def __init__(
        self,
        loss: LossSettings,
        teacher: nn.Module,
        student: nn.Module,
        generator: PlainGenerator,
        *,
        lr: float,
    ) -> None:
        self.loss = loss
        self.teacher = teacher.eval()
        self.student = student.train()
        self.generator = generator.train()
        self.sgd = torch.optim.SGD(student.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
        self.distances: list[Tensor] = []
        for layer in teacher.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_hook(self._remember_distance)

    def generator_step(self, latents: Tensor, labels: Tensor) -> float:
        """One update of the generator; its loss before that."""
        adam = torch.optim.Adam(self.generator.parameters(), lr=1e-3, betas=(0.5, 0.999))
        adam.zero_grad()
        images = self.generator(latents, labels)
        self.distances.clear()
        t_logits, t_features = self.teacher(images)
        s_logits, s_features = self.student(images)
        loss = (
            -_kl(s_logits, t_logits)
            - self.loss.ikd * F.mse_loss(s_logits, t_logits.detach())
            + self.loss.batch_norm * sum(self.distances)
            + self.loss.contrastive * _supcon(s_features, t_features, labels, self.loss.temperature)
            + self.loss.pseudo_label * F.cross_entropy(F.softmax(t_logits, 1), labels)
        )
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        return loss.item()

    def student_step(self, latents: Tensor, labels: Tensor) -> float:
        """One update of the student; its loss before that."""
        self.sgd.zero_grad()
        images = self.generator(latents, labels).detach()
        self.distances.clear()
        with torch.no_grad():
            t_logits, _ = self.teacher(images)
        s_logits, _ = self.student(images)
        loss = (
            _kl(s_logits, t_logits)
            + self.loss.ikd * F.mse_loss(s_logits, t_logits)
            + self.loss.pseudo_label * F.cross_entropy(F.softmax(s_logits, 1), labels)
        )
        loss.backward()  # type: ignore[no-untyped-call]
        self.sgd.step()
        return loss.item()

    def _remember_distance(self, layer: nn.BatchNorm2d, inputs: tuple[Tensor], _: Tensor) -> None:
        maps = inputs[0].permute(1, 0, 2, 3).flatten(1)
        assert layer.running_var is not None and layer.running_mean is not None
        of_variance = torch.norm(layer.running_var - maps.var(1, unbiased=False))
        self.distances.append(of_variance + torch.norm(layer.running_mean - maps.mean(1)))


def _kl(s_logits: Tensor, t_logits: Tensor) -> Tensor:
    return F.kl_div(F.log_softmax(s_logits, 1), F.softmax(t_logits, 1), reduction="batchmean")


def _supcon(s_features: Tensor, t_features: Tensor, labels: Tensor, temperature: float) -> Tensor:
    features = torch.cat([F.normalize(s_features), F.normalize(t_features)])
    labels = torch.cat([labels, labels])
    similarity = features @ features.T / temperature
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive = ((labels[:, None] == labels[None, :]) & others).float()
    similarity = similarity - similarity.max(1, keepdim=True).values.detach()
    log_probability = similarity - (similarity.exp() * others).sum(1, keepdim=True).log()
    return -((positive * log_probability).sum(1) / positive.sum(1)).mean()
