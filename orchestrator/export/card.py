"""The README of what was exported: what it is, where it came from, how to use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.config.yaml_file import write_yaml
from orchestrator.report.leaderboard import confirmations
from orchestrator.report.wording import fixed, setting, share, size
from orchestrator.store.folder import SweepFolder, TrialFolder

__all__ = ["images_card", "student_card"]


def student_card(folder: SweepFolder, trial: TrialFolder, written: Mapping[str, Any]) -> str:
    """A model card in Markdown with the front matter that model hubs read."""
    takes, manifest = written["input"], folder.manifest
    teacher = manifest.get("teacher") or {}
    return f"""\
---
library_name: {"onnx" if written["file"].endswith(".onnx") else "pytorch"}
pipeline_tag: image-classification
tags: [knowledge-distillation, data-free]
---

# {takes["arch"]} distilled from {teacher.get("arch")} without data

Trial `{trial.name}` of sweep `{folder.name}`. The student never saw a training image: it learned from
synthetic images that a generator made from the teacher alone.

| | |
|---|---|
{_results(folder, trial)}
| teacher | {_taught(teacher)} |
| parameters | {written["parameters"]:,} |
| size | {size(written["bytes"])} |
| time for one image on the CPU it was exported on | {written["milliseconds_for_one"]:.2f} ms |
| time per image in batches of 32 | {written["milliseconds_of_many"]:.3f} ms |

## Use

It takes any number of float32 images at once, of shape (batch, channels, height, width) with
{takes["channels"]} channel(s) of {takes["size"]} x {takes["size"]} pixels from 0 to 1, less {takes["mean"]}
and divided by {takes["std"]} per channel. It gives a logit for each of {takes["num_classes"]} classes,
which `config.json` names.

```python
{_USE[written["file"]].format(**takes)}
```

## How it was made

{_origin(folder, trial)}
"""


def images_card(folder: SweepFolder, trial: TrialFolder, written: Mapping[str, Any]) -> str:
    """A data set card in Markdown."""
    counts = written["images"]
    block = write_yaml({"data": written["data"]})
    return f"""\
---
task_categories: [image-classification]
tags: [synthetic, knowledge-distillation]
---

# Synthetic images from sweep {folder.name}

{counts["train"]:,} images to train on and {counts["test"]:,} to test on, made by the generator of trial
`{trial.name}`. No image shows anything real. `label` is the class that the teacher sees in the image, as
many of each; `teacher_logits` are its logits. {written["drawn"]:,} images were drawn to find them.

An experiment file reads them with

```yaml
{block}```

## How they were made

{_origin(folder, trial)}
"""


_USE = {
    "student.onnx": """\
import numpy, onnxruntime

session = onnxruntime.InferenceSession("student.onnx")
images = numpy.zeros((4, {channels}, {size}, {size}), numpy.float32)
(logits,) = session.run(None, {{"images": images}})""",
    "student.safetensors": """\
import safetensors.torch, torch
from cpsc_core.images import ImageSpec
from cpsc_core.weights import build_network

spec = ImageSpec(num_classes={num_classes}, channels={channels}, size={size}, mean={mean}, std={std})
network = build_network("{arch}", spec).eval()
network.load_state_dict(safetensors.torch.load_file("student.safetensors"), strict=False)
logits = network(torch.zeros(4, {channels}, {size}, {size})).logits_BC""",
}


def _taught(teacher: Mapping[str, Any]) -> str:
    val, test = share(teacher.get("accuracy")), share(teacher.get("test_accuracy"))
    return f"{teacher.get('arch')}, val {val}, test {test}"


def _results(folder: SweepFolder, trial: TrialFolder) -> str:
    metrics = trial.result.metrics if trial.result else {}
    lines = [f"| val accuracy | {share(metrics.get('val_accuracy'))} |"]
    if metrics.get("test_accuracy") is not None:
        lines.append(f"| test accuracy | {share(metrics['test_accuracy'])} |")
    if confirmed := confirmations(folder.trials()).get(trial.name):
        spread = "" if confirmed.test_std is None else f" +- {fixed(confirmed.test_std)}"
        lines.append(
            f"| the same settings with {confirmed.seeds} fresh seeds, test | "
            f"{fixed(confirmed.test_mean)}{spread} |"
        )
    return "\n".join(lines)


def _origin(folder: SweepFolder, trial: TrialFolder) -> str:
    manifest, record = folder.manifest, trial.record
    train = record.settings["train"]
    git = (manifest.get("git") or {}).get("commit") or "unknown"
    versions = ", ".join(f"{name} {version}" for name, version in (manifest.get("versions") or {}).items())
    params = ", ".join(f"`{path}` {setting(value)}" for path, value in record.params.items())
    return (
        f"- method: {train['method']} ({train['preset']}), {train['epochs']} epochs, seed {train['seed']}\n"
        f"- searched: {params}\n"
        f"- data the scores are from: {record.settings['data']['name']}, fingerprint "
        f"`{record.settings['data_fingerprint']}`\n"
        f"- teacher: sha256 `{record.settings['teacher']['sha256']}`\n"
        f"- commit: `{git}`\n- versions: {versions}"
    )
