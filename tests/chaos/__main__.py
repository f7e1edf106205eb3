"""Real sweeps under a random killer and an independent witness: `python -m tests.chaos --kills 50 --seed 1`.

Prints a line per part: what was killed and damaged, how many trials were compared with the same trials never
disturbed, and every complaint. Exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import uuid
from dataclasses import asdict
from pathlib import Path

from tests.chaos.killer import Killer
from tests.chaos.rounds import PARTS
from tests.chaos.stage import CannotMountError, Stage
from tests.chaos.troubled import Verdict


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of the controller, and of workers")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    parser.add_argument("--keep", type=Path, help="folder to leave everything in")
    parser.add_argument("--json", action="store_true", help="print a JSON document for each part")
    asked = parser.parse_args()
    folder = asked.keep or Path(tempfile.mkdtemp(prefix="cpsc-chaos-"))
    failed = False
    for name in asked.parts.split(","):
        chance = random.Random(f"{asked.seed} {name}")
        with Stage(folder / name, Killer(uuid.uuid4().hex, chance)) as stage:
            failed |= _run(name, stage, asked.kills, chance, as_json=asked.json)
    return int(failed)


def _run(name: str, stage: Stage, kills: int, chance: random.Random, *, as_json: bool) -> bool:
    verdict, began = Verdict(), time.monotonic()
    try:
        PARTS[name](stage, verdict, kills, chance)
    except CannotMountError as error:
        print(f"{name}: skipped: {error}", flush=True)
        return False
    seconds = time.monotonic() - began
    if as_json:
        print(json.dumps({"part": name, "seconds": seconds, **asdict(verdict)}), flush=True)
    else:
        print(f"{name}: {verdict} in {seconds:.0f} s", flush=True)
    return bool(verdict.complaints)


if __name__ == "__main__":
    sys.exit(main())
