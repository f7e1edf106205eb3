"""In which number format the networks compute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.amp import GradScaler
from torch.optim import Optimizer

from cpsc_core.networks.output import Output

__all__ = ["Precision", "exact"]

HALVES: Mapping[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """fp32, or autocast in a half format while losses and weights stay in fp32.

    Gradients in fp16 are scaled so that small ones are not lost; a step in which one overflows is left out
    and the scale is lowered. Nothing here waits for the device.
    """

    def __init__(self, name: str, device: torch.device, players: Iterable[str]) -> None:
        self._half = HALVES.get(name)
        self._device = device
        self._scalers = {each: GradScaler(device.type, enabled=name == "fp16") for each in players}

    def networks(self) -> AbstractContextManager[Any]:
        """The block in which the networks are run."""
        return nullcontext() if self._half is None else torch.autocast(self._device.type, self._half)

    def backward(self, player: str, loss: Tensor) -> None:
        """Gradients of a player's loss, scaled in fp16."""
        scaled: Any = self._scalers[player].scale(loss)
        scaled.backward()

    def step(self, player: str, optimiser: Optimizer) -> None:
        """An optimiser's step by those gradients."""
        self._scalers[player].step(optimiser)
        self._scalers[player].update()

    def state_dict(self) -> dict[str, Any]:
        """The scale of each player's gradients; empty but in fp16."""
        return {player: scaler.state_dict() for player, scaler in self._scalers.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where a state was taken."""
        for player, scaler in self._scalers.items():
            scaler.load_state_dict(state[player])


def exact(output: Output) -> Output:
    """The output of a network under autocast in single precision; any other as it is."""
    return Output(*(tensor.float() if tensor.dtype in HALVES.values() else tensor for tensor in output))
