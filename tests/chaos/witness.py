"""An onlooker who reads the folders of a sweep with json and nothing else, and complains.

Nothing of the product is imported here, so an error of the product's own readers and writers cannot hide
itself. What it holds against a sweep:

- a record or a result, once it is there, never changes and never vanishes;
- a finished trial begins no further attempt, and no attempt of it gets another line;
- the lines of an attempt only grow in number: none is changed, taken away, torn or written twice;
- an epoch that was computed twice, in two attempts, gave the same line both times;
- a number belongs to one trial, a result to the attempt that has the lines;
- in the end every trial has a result and nobody has left a draft behind.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Witness", "fingerprints"]

_CLOCK_OF_A_LINE = {"seconds", "latency", "peak_memory_gb"}
_CLOCK_OF_A_RESULT = {"timing", "attempt", "generation"}
_WEIGHTS = ("student.safetensors", "generator.safetensors", "per_class.json")


@dataclass
class Witness:
    """What was seen of one sweep so far; `look` again and again while it runs."""

    root: Path
    complaints: list[str] = field(default_factory=list)
    looks: int = 0
    _settled: dict[Path, bytes] = field(default_factory=dict)
    _lines: dict[Path, bytes] = field(default_factory=dict)
    _forgiven: set[Path] = field(default_factory=set)
    _numbers: dict[int, str] = field(default_factory=dict)
    _ended: dict[str, tuple[set[str], dict[Path, bytes]]] = field(default_factory=dict)

    def look(self) -> None:
        """Compare what is there with what was there."""
        self.looks += 1
        for path in [*self.root.glob("trials/*/trial.json"), *self.root.glob("trials/*/result.json")]:
            self._settled.setdefault(path, _content(path) or b"")
        for path, content in self._settled.items():
            if (now := _content(path)) != content:
                self._complain(path, "has vanished" if now is None else "has changed")
        for path in self.root.glob("trials/*/attempts/*/metrics.jsonl"):
            self._watch_lines(path)
        for path in self.root.glob("trials/*/trial.json"):
            self._watch_number(path)
        for path in self.root.glob("trials/*/result.json"):
            self._watch_finished(path.parent)

    def forgive(self, path: Path) -> None:
        """Somebody damaged these lines on purpose: from now on they are as they are now.

        Of an epoch that stands there twice the first line counts.
        """
        self._lines.pop(path, None)
        self._forgiven.add(path)

    def close(self) -> None:
        """The sweep is over: look a last time, and at what is only true in the end."""
        self.look()
        for record in sorted(self.root.glob("trials/*/trial.json")):
            self._judge(record.parent)
        for draft in self.root.parent.rglob("*.draft"):
            self._complain(draft, "was left behind")

    def _complain(self, path: Path, what: str) -> None:
        complaint = f"{path.relative_to(self.root.parent)} {what}"
        if complaint not in self.complaints:
            self.complaints.append(complaint)

    def _watch_lines(self, path: Path) -> None:
        now = _content(path) or b""
        before = self._lines.get(path, b"")
        if not now.startswith(before):
            self._complain(path, "has lost or changed lines")
        self._lines[path] = now

    def _watch_number(self, path: Path) -> None:
        record = _parse(path)
        if record is None:
            self._complain(path, "is torn")
        elif (number := record.get("number")) is not None:
            owner = self._numbers.setdefault(number, path.parent.name)
            if owner != path.parent.name:
                self._complain(path, f"has number {number}, as {owner} has")

    def _watch_finished(self, trial: Path) -> None:
        attempts = {each.name for each in trial.glob("attempts/*")}
        lines = {path: _content(path) or b"" for path in trial.glob("attempts/*/metrics.jsonl")}
        known, before = self._ended.setdefault(trial.name, (attempts, lines))
        if attempts - known:
            self._complain(trial, f"has a result and began attempt {', '.join(attempts - known)}")
        for path, content in lines.items():
            if content != before.get(path, content):
                self._complain(path, "has new lines although the trial has a result")

    def _judge(self, trial: Path) -> None:
        result = _parse(trial / "result.json")
        if result is None:
            self._complain(trial, "has no legible result")
            return
        attempts = sorted(int(each.name) for each in trial.glob("attempts/*"))
        written = [each for each in attempts if (trial / "attempts" / str(each) / "metrics.jsonl").exists()]
        if written and result["attempt"] != written[-1]:
            self._complain(
                trial,
                f"has the result of attempt {result['attempt']}, but attempt {written[-1]} has the lines",
            )
        seen: dict[int, dict[str, Any]] = {}
        for number in attempts:
            path = trial / "attempts" / str(number) / "metrics.jsonl"
            last = number == result["attempt"]
            lines = self._lines_of(path, strict=last)
            if path in self._forgiven:
                lines = list({line["epoch"]: line for line in reversed(lines)}.values())
            for line in lines:
                if seen.setdefault(line["epoch"], line) != line:
                    self._complain(path, f"has another epoch {line['epoch']} than an earlier attempt")

    def _lines_of(self, path: Path, *, strict: bool) -> list[dict[str, Any]]:
        """The legible lines without clocks; the attempt that counts must have each epoch exactly once."""
        found = []
        raw = (_content(path) or b"").decode(errors="replace")
        for text in raw.splitlines():
            try:
                line = json.loads(text)
                if not isinstance(line, dict) or "epoch" not in line:
                    raise ValueError(text)
                found.append({key: line[key] for key in sorted(line) if key not in _CLOCK_OF_A_LINE})
            except ValueError:
                if strict:
                    self._complain(path, f"has the torn line {text[:40]!r}")
        epochs = [line["epoch"] for line in found]
        if strict and (epochs != list(range(1, len(epochs) + 1)) or not raw.endswith("\n" * bool(raw))):
            self._complain(path, f"has epochs {epochs}")
        return found


def fingerprints(root: Path) -> dict[str, str]:
    """A hash of all that a trial came to, by trial: parameters, lines, weights and result, without clocks."""
    found = {}
    for path in sorted(root.glob("trials/*/result.json")):
        trial, result = path.parent, _parse(path) or {}
        record = _parse(trial / "trial.json") or {}
        attempt = trial / "attempts" / str(result.get("attempt"))
        lines = [json.loads(text) for text in (_content(attempt / "metrics.jsonl") or b"").splitlines()]
        facts = {
            "number": record.get("number"),
            "stage": record.get("stage"),
            "params": record.get("params"),
            "lines": [_without(line, _CLOCK_OF_A_LINE) for line in lines],
            "result": _without(result, _CLOCK_OF_A_RESULT),
            "weights": [hashlib.sha256(_content(attempt / name) or b"").hexdigest() for name in _WEIGHTS],
        }
        canonical = json.dumps(facts, sort_keys=True)
        found[trial.name] = hashlib.sha256(canonical.encode()).hexdigest()
    return found


def _without(content: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _parse(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(_content(path) or b"")
    except ValueError:
        return None
    return content
