import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpsc_core.memory import MemoryUse, MemoryWatch, give_back_memory, processes_killed_for_memory

GIB = 1024**3


def test_a_shortage_names_peak_limit_and_a_batch_that_would_fit() -> None:
    use = MemoryUse(held=2 * GIB, peak=18 * GIB, limit=10 * GIB)

    said = use.explain(512)

    assert said == (
        "it needs 18.00 GiB or more of 10.00 GiB; a batch_size of about 230 instead of 512 would fit"
    )


def test_a_shortage_of_what_is_always_held_has_no_batch_that_fits() -> None:
    use = MemoryUse(held=12 * GIB, peak=13 * GIB, limit=10 * GIB)

    assert use.explain(512).endswith("not even the smallest batch would fit")


@given(
    held=st.integers(0, 100),
    grows=st.integers(1, 1000),
    limit=st.integers(1, 1000),
    batch=st.integers(2, 4096),
    ranks=st.sampled_from([1, 2, 3, 4]),
)
def test_the_advised_batch_fits_is_smaller_and_can_be_shared(
    held: int, grows: int, limit: int, batch: int, ranks: int
) -> None:
    fits = MemoryUse(held=held, peak=held + grows, limit=limit).fitting(batch, ranks)

    if fits is not None:
        assert 0 < fits < batch
        assert fits % ranks == 0
        assert held + grows * fits / batch <= limit


@given(ranks=st.sampled_from([1, 2, 4]))
def test_there_is_advice_wherever_half_of_the_batch_fits_easily(ranks: int) -> None:
    assert MemoryUse(held=1, peak=100, limit=60).fitting(64, ranks) is not None


def test_what_an_error_asked_for_counts_as_needed() -> None:
    watch = MemoryWatch("cpu")
    watch.note_idle()
    plain = watch.use()
    wanted = RuntimeError(f"DefaultCPUAllocator: can't allocate memory: you tried to allocate {10**12} bytes")

    assert watch.use(wanted).peak == plain.held + 10**12
    asked = watch.use(RuntimeError("CUDA out of memory. Tried to allocate 512.00 GiB. GPU 0 has ..."))
    assert asked.peak == plain.held + 512 * GIB
    assert 0 < plain.held <= plain.peak < plain.limit < math.inf


def test_a_limit_of_the_process_itself_is_the_limit() -> None:
    code = (
        "import resource; from cpsc_core.memory import MemoryWatch\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 * 1024**3, -1))\n"
        "print(MemoryWatch('cpu').use().limit)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert int(said) == 3 * GIB


def test_reading_what_a_process_needs_loads_no_torch() -> None:
    code = "import sys, cpsc_core.memory as m; m.MemoryWatch('cpu').use(); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_memory_that_only_a_circle_of_references_held_is_given_back() -> None:
    import weakref

    class Node:
        pass

    node = Node()
    node.itself = node  # type: ignore[attr-defined]
    gone = weakref.ref(node)
    del node

    give_back_memory()

    assert gone() is None


def test_the_kernel_says_how_many_processes_it_killed_for_memory() -> None:
    assert processes_killed_for_memory() >= 0


@pytest.mark.gpu
def test_memory_of_the_gpu_is_free_for_others_once_nobody_refers_to_it() -> None:
    import torch

    watch = MemoryWatch("cuda")
    watch.note_idle()
    images = torch.ones(256 * 1024**2, device="cuda")
    used = watch.use()
    assert used.peak - used.held >= GIB
    assert used.limit == torch.cuda.get_device_properties(0).total_memory
    del images

    give_back_memory()

    assert torch.cuda.memory_reserved() < GIB
    assert torch.cuda.max_memory_allocated() < GIB
