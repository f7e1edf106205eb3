import gzip
import json
from pathlib import Path

import torch

from cpsc_core.profile import tracing


def work() -> None:
    torch.ones(8, 8) @ torch.ones(8, 8)


def test_the_second_iteration_and_the_third_are_traced(tmp_path: Path) -> None:
    path = tmp_path / "trace.json.gz"

    with tracing(path) as before_iteration:
        for _ in range(4):
            assert not path.exists()
            before_iteration()
            work()
        assert path.exists()

    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert sum(event.get("name") == "aten::mm" for event in events) == 2


def test_a_block_that_is_too_short_leaves_no_file(tmp_path: Path) -> None:
    with tracing(tmp_path / "trace.json") as before_iteration:
        before_iteration()
        work()

    assert not list(tmp_path.iterdir())
