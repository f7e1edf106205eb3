"""A sweep as two Arrow tables: a row per trial, and a row per trial, epoch and metric.

Columns that every sweep has are in TRIAL_FIELDS and METRIC_FIELDS, each with a sentence, which the Parquet
files carry as the field's metadata. The table of trials adds `param.<path>` for every searched parameter and
`metric.<name>` for every number in a result.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from orchestrator.store.folder import TrialFolder

__all__ = [
    "METRIC_FIELDS",
    "TRIAL_FIELDS",
    "join_metrics",
    "join_rows",
    "metrics_table",
    "trial_row",
    "trials_table",
]

_MOMENT = pa.timestamp("ms", tz="UTC")

TRIAL_FIELDS: Mapping[str, tuple[pa.DataType, str]] = {
    "trial": (pa.string(), "The trial's hash, which is also its folder."),
    "number": (pa.int32(), "The sampler's number of the suggestion, from 0; null for a confirm trial."),
    "stage": (pa.string(), "search or confirm."),
    "state": (pa.string(), "pending, running, complete, pruned or failed."),
    "objective": (pa.float64(), "Value the sweep ranks by; null unless complete."),
    "epoch": (pa.int32(), "Last finished epoch, 0 before the first."),
    "epochs": (pa.int32(), "Epochs of the whole trial."),
    "seed": (pa.int64(), "Seed of the training."),
    "attempts": (pa.int32(), "Attempts begun."),
    "seconds": (pa.float64(), "Seconds of work over all attempts."),
    "created": (_MOMENT, "When the trial was committed."),
    "ended": (_MOMENT, "When it was given its result; null while unfinished."),
    "cause": (pa.string(), "Class of the failure; null unless failed."),
    "detail": (pa.string(), "Why it failed or was pruned, in words."),
}
"""Type and meaning of the columns that every table of trials begins with."""

METRIC_FIELDS: Mapping[str, tuple[pa.DataType, str]] = {
    "trial": (pa.string(), "The trial's hash."),
    "number": (pa.int32(), "The sampler's number of the suggestion; null for a confirm trial."),
    "stage": (pa.string(), "search or confirm."),
    "epoch": (pa.int32(), "Epoch, from 1."),
    "seconds": (pa.float64(), "Seconds of the attempt's work up to the end of the epoch."),
    "metric": (pa.dictionary(pa.int32(), pa.string()), "Name of the metric, as in metrics.jsonl."),
    "value": (pa.float64(), "Its value after the epoch; NaN if it was not a number."),
}
"""Type and meaning of the columns of the table of metrics."""

_NOT_METRICS = frozenset({"epoch", "seconds"})


def trials_table(trials: Iterable[TrialFolder]) -> pa.Table:
    """A row per trial, in the order given."""
    return join_rows([trial_row(trial) for trial in trials])


def metrics_table(trial: TrialFolder) -> pa.Table:
    """A row per epoch and metric of one trial, epochs ascending."""
    return pa.Table.from_pydict(_metric_columns(trial), _METRIC_SCHEMA)


def join_metrics(tables: Sequence[pa.Table]) -> pa.Table:
    """The tables of several trials as one."""
    return pa.concat_tables(tables).unify_dictionaries() if tables else _METRIC_SCHEMA.empty_table()


def join_rows(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The table of rows that `trial_row` gave."""
    fields = [_field(name, kind, text) for name, (kind, text) in TRIAL_FIELDS.items()]
    columns = [pa.array([row[each.name] for row in rows], each.type) for each in fields]
    for prefix in ("param.", "metric."):
        names = sorted({name for row in rows for name in row if name.startswith(prefix)})
        for name in names:
            values = _uniform([row.get(name) for row in rows])
            fields.append(_field(name, values.type, _DYNAMIC[prefix].format(name.removeprefix(prefix))))
            columns.append(values)
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def trial_row(trial: TrialFolder) -> dict[str, Any]:
    """One trial by column, those of TRIAL_FIELDS and its own."""
    record, result = trial.record, trial.result
    train = record.settings.get("train", {})
    row = {
        "trial": trial.name,
        "number": record.number,
        "stage": record.stage.value,
        "state": trial.state.value,
        "objective": result.objective if result else None,
        "epoch": trial.epoch,
        "epochs": train.get("epochs"),
        "seed": train.get("seed"),
        "attempts": len(trial.attempts),
        "seconds": result.timing["seconds"] if result and "seconds" in result.timing else trial.seconds,
        "created": round(record.created * 1000),
        "ended": round(result.timing["ended"] * 1000) if result and "ended" in result.timing else None,
        "cause": result.cause if result else None,
        "detail": result.detail if result else None,
    }
    row |= {
        f"param.{path}": _in_kind(value, record.distributions.get(path))
        for path, value in record.params.items()
    }
    metrics = result.measured if result else {}
    return row | {
        f"metric.{name}": float(value)
        for name, value in metrics.items()
        if name not in _NOT_METRICS and _is_number(value)
    }


_DYNAMIC = {
    "param.": "Value of the searched parameter {}; null where it was not searched.",
    "metric.": "{} of the result, after the last epoch of the trial unless its name says otherwise.",
}


def _field(name: str, kind: pa.DataType, text: str) -> pa.Field:
    return pa.field(name, kind, metadata={"description": text})


def _metric_columns(trial: TrialFolder) -> dict[str, list[Any]]:
    rows = [
        (line["epoch"], line.get("seconds"), name, float(value))
        for line in trial.history
        for name, value in line.items()
        if name not in _NOT_METRICS and _is_number(value)
    ]
    epochs, seconds, names, values = (list(each) for each in zip(*rows, strict=True)) if rows else ([],) * 4
    who = {"trial": trial.name, "number": trial.record.number, "stage": trial.record.stage.value}
    same = {name: [value] * len(rows) for name, value in who.items()}
    return {**same, "epoch": epochs, "seconds": seconds, "metric": names, "value": values}


def _in_kind(value: Any, distribution: str | None) -> Any:
    """A parameter's value as the narrowest type that holds all of its space, which columns then have."""
    space = json.loads(distribution) if distribution else {}
    choices = (space.get("attributes") or {}).get("choices", ())
    kinds = {type(choice) for choice in choices if choice is not None}
    if value is None or (not choices and space.get("name") != "FloatDistribution") or len(kinds) == 1:
        return value
    if kinds <= {int, float}:
        return float(value)
    return value if isinstance(value, str) else json.dumps(value)


def _uniform(values: Sequence[Any]) -> pa.Array:
    """Values in the narrowest type that holds all: bool, int64, float64, or else strings, others as JSON."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.array(values, pa.bool_())
    if kinds == {int}:
        return pa.array(values, pa.int64())
    if kinds and kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array(
        [value if value is None or isinstance(value, str) else json.dumps(value) for value in values],
        pa.string(),
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_METRIC_SCHEMA = pa.schema([_field(name, kind, text) for name, (kind, text) in METRIC_FIELDS.items()])
