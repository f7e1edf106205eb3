"""Damaged experiment files at the door: `python -m tests.fuzz --count 10000 --seed 1`.

Prints what became of them, and every complaint with the file it is about. Exits with 1 if there is any.
`--only N` looks at the file of one number and shows it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzz.door import knock, warm_up
from tests.fuzz.mutate import case


def main() -> int:
    """Look at as many files as were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="files")
    parser.add_argument("--seed", type=int, default=0, help="of the damage")
    parser.add_argument("--only", type=int, help="the number of one file")
    asked = parser.parse_args()
    numbers = range(asked.count) if asked.only is None else [asked.only]
    codes: Counter[int] = Counter()
    slowest, complained, began = (0.0, 0), 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="cpsc-fuzz-") as folder:
        warm_up(Path(folder))
        for number in numbers:
            damaged = case(asked.seed, number)
            found = knock(damaged, Path(folder) / "x.yaml")
            codes[found.code] += 1
            slowest = max(slowest, (found.seconds, number))
            for complaint in found.complaints:
                complained += 1
                print(f"file {number} of seed {asked.seed}: {complaint}", flush=True)
            if asked.only is not None:
                print(
                    damaged.data.decode("utf-8", "backslashreplace"), *damaged.overrides, found.said, sep="\n"
                )
    seconds = time.monotonic() - began
    print(
        f"{sum(codes.values())} files of seed {asked.seed} in {seconds:.0f} s: {codes[0]} accepted, "
        f"{codes[2]} refused, {complained} complaint(s); the slowest, file {slowest[1]}, took "
        f"{slowest[0]:.2f} s of the processor"
    )
    return int(complained > 0)


if __name__ == "__main__":
    sys.exit(main())
