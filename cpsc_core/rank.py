"""One of the processes that train a trial together: read once, at the door, and passed down as a value.

Every rank computes the loss of the whole batch from what the others exchange with it. A gradient that comes
back to an exchanged tensor is summed over the ranks, each of which counted the whole loss once; so the mean
of the weights' gradients over the ranks is the gradient of one process with the whole batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed import Store, TCPStore  # type: ignore[attr-defined]

from cpsc_core.blackboard import CAPACITY, Blackboard, place
from cpsc_core.device import device_type, own_device
from cpsc_core.errors import RankError

__all__ = ["ALONE", "Rank", "meeting_place"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rank:
    """A process among those that train one trial.

    Its methods are called by all ranks in the same order; alone, each of them costs nothing. They raise
    RankError if another rank has died or did not answer in time.
    """

    index: int = 0
    """From 0; the first rank alone writes and evaluates."""
    world_size: int = 1
    """How many ranks there are."""
    device: str = "cpu"
    """Where it computes, unless it is told otherwise."""
    blackboard: Blackboard | None = None
    """Where it exchanges small tensors of the CPU with the others, if all are on one machine."""

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str], *, device: str | None, timeout_seconds: float
    ) -> Self:
        """The rank that `torchrun` made of this process; else alone.

        `environ` is the process's own. Without a `device`, or with cuda, each rank has a GPU of its own if
        there are any. A rank that does not answer for `timeout_seconds` counts as dead. Raises SettingsError
        if there is no such device, or fewer GPUs than ranks here.
        """
        if "LOCAL_RANK" not in environ:
            return cls(device=device or "cpu")
        if device is None or (device_type(device) == "cuda" and ":" not in device):
            device = own_device(int(environ["LOCAL_RANK"]))
        index, world_size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
        if world_size == 1:
            return cls(device=device)
        if torch.device(device).type == "cuda":
            torch.cuda.set_device(device)
        return cls._connected(index, world_size, device, timeout_seconds, None)

    @classmethod
    def join(cls, store: Store, *, index: int, world_size: int, device: str, timeout_seconds: float) -> Self:
        """One of the ranks that meet at a store; returns when all of them are there."""
        return cls._connected(index, world_size, device, timeout_seconds, store)

    @classmethod
    def _connected(
        cls, index: int, world_size: int, device: str, timeout_seconds: float, store: Store | None
    ) -> Self:
        # The first optimiser loads this. If the group is there before it, it keeps hold of the group, whose
        # threads then live on and may abort the process as it ends.
        import torch._dynamo

        # gloo for tensors on the CPU, so that a question never waits for the GPU
        backend = "cpu:gloo,cuda:nccl" if torch.device(device).type == "cuda" else "gloo"
        with _in_contact(index, world_size):
            dist.init_process_group(
                backend,
                timeout=timedelta(seconds=timeout_seconds),
                store=store,
                rank=index,
                world_size=world_size,
            )
        connected = cls(index=index, world_size=world_size, device=device)
        return replace(connected, blackboard=connected._shared_blackboard(timeout_seconds))

    def _shared_blackboard(self, timeout_seconds: float) -> Blackboard | None:
        """One that all ranks have; None, on every rank, if they are on several machines or kept apart."""
        here, of_first = place(), self.ask(place)
        if self.any(here is None or here != of_first):
            return None
        board = None
        with suppress(OSError):  # a sandbox may forbid to make memory or to look into each other
            board = Blackboard.make(self.world_size, timeout_seconds) if self.is_first else None
        address = self.ask(lambda: board and board.address)
        with suppress(OSError):
            if address and not self.is_first:
                board = Blackboard.open(address, self.index, self.world_size, timeout_seconds)
        if not self.any(board is None):
            return board
        if board is not None:
            board.close()
        return None

    @property
    def is_alone(self) -> bool:
        """Whether there is nobody to exchange anything with."""
        return self.world_size == 1

    @property
    def is_first(self) -> bool:
        """Whether it is the one that writes and evaluates."""
        return self.index == 0

    def leave(self) -> None:
        """Close the connections to the others."""
        if self.blackboard is not None:
            self.blackboard.close()
        if not self.is_alone:
            dist.destroy_process_group()

    def part(self, batch: Tensor) -> Tensor:
        """This rank's share of what belongs to a global batch: rows that follow each other."""
        size = len(batch) // self.world_size
        return batch[self.index * size : (self.index + 1) * size]

    def gather(self, own: Tensor) -> Tensor:
        """The tensors of all ranks, stacked in their order: (...) to (ranks, ...). It has a gradient."""
        if self.is_alone:
            return own[None]
        every: Tensor = _Gather.apply(own, self)
        return every

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of a tensor over the ranks, in place. It has no gradient.

        Small tensors are added in the order of the ranks, wherever these are.
        """
        if self.is_alone:
            return tensor
        if _is_small(tensor):
            return tensor.copy_(self._gathered(tensor).sum(0))
        with self._in_contact():
            dist.all_reduce(tensor)
        return tensor

    def average(self, gradients: Iterable[Tensor]) -> None:
        """Replace each gradient by its mean over the ranks.

        One exchange of all in a fixed layout. DistributedDataParallel would send its first buckets while the
        last gradients are computed, but it lays them out anew after the first step, which changes how three
        ranks or more round their sums: a resumed run would differ from one that was never stopped.
        """
        if self.is_alone:
            return
        each = list(gradients)
        flat = self.sum(torch.cat([gradient.flatten() for gradient in each])) / self.world_size
        means = torch.split(flat, [gradient.numel() for gradient in each])
        for gradient, mean in zip(each, means, strict=True):
            gradient.copy_(mean.view_as(gradient))

    def copy_from_first(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite tensors by those of the first rank."""
        if self.is_alone:
            return
        with self._in_contact():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on one rank at least."""
        if self.is_alone:
            return flag
        return bool(self.sum(torch.tensor([int(flag)])).item())

    def ask(self, question: Callable[[], Any]) -> Any:
        """The answer of the first rank, which alone is asked; others wait for it. Any JSON value.

        An exception leaves on every rank: on the first as it is, on the others as a RankError that quotes it.
        """
        if self.is_alone:
            return question()
        if not self.is_first:
            heard = self._hear()
            if "error" in heard:
                raise RankError(f"the first rank failed: {heard['error']}")
            return heard["answer"]
        try:
            answer = question()
            words = json.dumps({"answer": answer})
        except Exception as error:
            self._tell(json.dumps({"error": f"{type(error).__name__}: {error}"}))
            raise
        self._tell(words)
        return answer

    def _tell(self, words: str) -> None:
        content = torch.frombuffer(bytearray(words.encode()), dtype=torch.uint8)
        self.copy_from_first((torch.tensor([len(content)]), content))

    def _hear(self) -> dict[str, Any]:
        size = torch.zeros(1, dtype=torch.int64)
        self.copy_from_first((size,))
        content = torch.empty(int(size), dtype=torch.uint8)
        self.copy_from_first((content,))
        heard: dict[str, Any] = json.loads(bytes(content.tolist()))
        return heard

    def _gathered(self, own: Tensor) -> Tensor:
        with self._in_contact():
            if self.blackboard is not None and _is_small(own):
                return self.blackboard.gather(own)
            every = own.new_empty(self.world_size, *own.shape)
            dist.all_gather(list(every), own.contiguous())
        return every

    def _in_contact(self) -> Any:
        return _in_contact(self.index, self.world_size)


ALONE = Rank()
"""The only process of a trial."""


def meeting_place(host: str, port: int = 0) -> TCPStore:
    """Where ranks meet: without a port it is opened here, on a free one; else it is another process's."""
    return TCPStore(host, port, is_master=port == 0, wait_for_workers=False)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, rank: Rank) -> Tensor:
        ctx.rank = rank
        return rank._gathered(own)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        rank: Rank = ctx.rank
        total = rank.sum(gradient.clone(memory_format=torch.contiguous_format))
        return total[rank.index], None


def _is_small(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.nbytes <= CAPACITY


@contextmanager
def _in_contact(index: int, world_size: int) -> Iterator[None]:
    """Say in one sentence what the backends say in a page when a rank dies or keeps silent."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise RankError(
            f"rank {index} of {world_size} lost the others: one has died or does not answer ({reason})"
        ) from error
