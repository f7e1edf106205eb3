"""The Arrow tables of a sweep, and the programs that read them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.report.tables import (
    METRIC_FIELDS,
    TRIAL_FIELDS,
    join_metrics,
    metrics_table,
    trials_table,
)
from orchestrator.report.views import Views
from orchestrator.store.records import TrialState
from tests.support.folders import MadeSweep


@pytest.fixture
def sweep(tmp_path: Path) -> MadeSweep:
    sweep = MadeSweep(tmp_path)
    sweep.trial(0, [0.5, 0.6], params={"loss.ikd": 1.0, "generator.steps": 2, "method": "cpsc"})
    sweep.trial(1, [0.2], state=TrialState.PRUNED, params={"loss.ikd": 2.5, "generator.steps": 3})
    sweep.trial(2, [], state=TrialState.FAILED, cause="hang", params={"loss.ikd": 4.0})
    sweep.trial(None, [0.7], seed=1, test=0.8)
    return sweep


def test_every_trial_is_a_row_with_typed_parameters(sweep: MadeSweep) -> None:
    table = trials_table(sweep.folder.trials())

    assert table.schema.field("param.loss.ikd").type == pa.float64()
    assert table.schema.field("param.generator.steps").type == pa.int64()
    assert table.schema.field("param.method").type == pa.string()
    assert table["number"].to_pylist() == [0, 1, 2, None]
    assert table["state"].to_pylist() == ["complete", "pruned", "failed", "complete"]
    assert table["param.generator.steps"].to_pylist() == [2, 3, None, None]
    assert table["cause"].to_pylist() == [None, None, "hang", None]
    assert table["metric.test_accuracy"].to_pylist() == [None, None, None, 0.8]


def test_the_fixed_columns_come_first_and_all_are_described(sweep: MadeSweep) -> None:
    trials = trials_table(sweep.folder.trials())
    metrics = join_metrics([metrics_table(trial) for trial in sweep.folder.trials()])

    assert trials.column_names[: len(TRIAL_FIELDS)] == list(TRIAL_FIELDS)
    assert metrics.column_names == list(METRIC_FIELDS)
    for schema in (trials.schema, metrics.schema):
        assert all(field.metadata[b"description"].endswith(b".") for field in schema)


def test_every_epoch_and_metric_is_a_row(sweep: MadeSweep) -> None:
    table = join_metrics([metrics_table(trial) for trial in sweep.folder.trials()])

    accuracy = [row for row in table.to_pylist() if row["metric"] == "val_accuracy"]
    assert [(row["number"], row["epoch"], row["value"]) for row in accuracy] == [
        (0, 1, 0.5),
        (0, 2, 0.6),
        (1, 1, 0.2),
        (None, 1, 0.7),
    ]


def test_a_sweep_without_trials_has_tables_without_rows() -> None:
    assert trials_table([]).column_names == list(TRIAL_FIELDS)
    assert join_metrics([]).column_names == list(METRIC_FIELDS)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.one_of(st.booleans(), st.integers(-(2**40), 2**40), st.floats(allow_nan=False), st.text()),
        min_size=1,
        max_size=6,
    )
)
def test_no_mixture_of_values_loses_one(
    tmp_path_factory: pytest.TempPathFactory, values: list[object]
) -> None:
    sweep = MadeSweep(tmp_path_factory.mktemp("storage"))
    for number, value in enumerate(values):
        sweep.trial(number, [0.5], params={"loss.ikd": value})

    column = trials_table(sweep.folder.trials())["param.loss.ikd"].to_pylist()

    for value, found in zip(values, column, strict=True):
        assert found == value or json.loads(found) == value


def test_the_files_open_in_pandas_polars_and_duckdb_with_one_line(
    sweep: MadeSweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    Views(sweep.folder).write()
    monkeypatch.chdir(sweep.paths.root)

    frame = pandas.read_parquet("trials.parquet")
    lazy = polars.read_parquet("metrics.parquet")
    counted = duckdb.sql(
        "select state, count(*) from 'trials.parquet' group by state order by state"
    ).fetchall()

    assert frame["param.loss.ikd"].tolist()[:3] == [1.0, 2.5, 4.0]
    assert lazy.filter(polars.col("metric") == "val_accuracy")["value"].max() == 0.7
    assert counted == [("complete", 2), ("failed", 1), ("pruned", 1)]


def test_the_files_keep_what_the_columns_mean(sweep: MadeSweep) -> None:
    Views(sweep.folder).write()

    field = pq.read_schema(sweep.paths.trials_table).field("objective")

    assert field.metadata[b"description"] == TRIAL_FIELDS["objective"][1].encode()


def test_a_column_has_the_type_of_its_space_from_the_first_trial_on(tmp_path: Path) -> None:
    space = {
        "loss.ikd": ("FloatDistribution", {"step": None, "low": 1.0, "high": 3.0, "log": False}, 2.0),
        "generator.steps": ("IntDistribution", {"step": 1, "low": 1, "high": 3, "log": False}, 2),
        "student.lr": ("CategoricalDistribution", {"choices": [1, 0.5]}, 1),
        "x": ("CategoricalDistribution", {"choices": [1, 0.5, "auto"]}, 1),
        "method": ("CategoricalDistribution", {"choices": ["cpsc", "mine"]}, "cpsc"),
        "compile": ("CategoricalDistribution", {"choices": [True, False]}, True),
    }
    sweep = MadeSweep(tmp_path)
    name = sweep.trial(0, [0.5], params={path: value for path, (_, _, value) in space.items()})
    record = json.loads(sweep.paths.trial(name).record.read_text())
    record["distributions"] = {
        path: json.dumps({"name": kind, "attributes": given}) for path, (kind, given, _) in space.items()
    }
    sweep.paths.trial(name).record.write_text(json.dumps(record))

    schema = trials_table(sweep.folder.trials()).schema

    kinds = [pa.float64(), pa.int64(), pa.float64(), pa.string(), pa.string(), pa.bool_()]
    assert [schema.field(f"param.{path}").type for path in space] == kinds


def test_what_clocks_measured_is_a_column_too(tmp_path: Path) -> None:
    sweep = MadeSweep(tmp_path)
    name = sweep.trial(0, [0.5])
    result = json.loads(sweep.paths.trial(name).result.read_text())
    result["timing"] |= {"latency": 0.002, "peak_memory_gb": 1.5}
    sweep.paths.trial(name).result.write_text(json.dumps(result))

    table = trials_table(sweep.folder.trials())

    assert table["metric.latency"].to_pylist() == [0.002]
    assert table["metric.peak_memory_gb"].to_pylist() == [1.5]
    assert "metric.gpu_seconds" not in table.column_names
