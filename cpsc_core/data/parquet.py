"""Images in Parquet files, as the Hugging Face hub and its library write them.

One column holds encoded images, as `{bytes, path}` or as bytes alone; one holds whole numbers, the classes. A
part is one file or many. Labels are read at once, images one batch of rows after the other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpsc_core.data.decode import Encoded, Shape, decode_all
from cpsc_core.data.file_set import Parts
from cpsc_core.data.own import OwnData
from cpsc_core.data.store import Store, empty
from cpsc_core.errors import DataError
from cpsc_core.settings import DataSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["PARQUET", "ParquetLayout"]

_USUAL = {
    "train": ("train*.parquet",),
    "val": ("val*.parquet", "dev*.parquet"),
    "test": ("test*.parquet",),
}
"""What files of a part are usually called."""
_ROWS_AT_ONCE = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetLayout:
    """Where the files of each part are, and which columns count."""

    patterns: tuple[tuple[str, str], ...] = ()
    """Part and pattern of its files below the root; a part without one has the usual names."""
    image: str | None = None
    """The column with the images; None: the only one that can be."""
    label: str | None = None
    """The column with the classes; None: the only one that can be."""
    names_given: bool = False
    """Whether the class names are the user's, to be compared with those that a file may state."""

    @classmethod
    def of(cls, settings: DataSettings) -> ParquetLayout:
        """The layout that settings describe."""
        patterns = {part: getattr(settings, part) for part in _USUAL}
        return cls(
            patterns=tuple((part, pattern) for part, pattern in patterns.items() if pattern is not None),
            image=settings.image,
            label=settings.label,
            names_given=isinstance(settings.classes, tuple),
        )

    def files(self, root: Path) -> list[Path]:
        """All files of all parts."""
        return [path for paths in self._files_by_part(root).values() for path in paths]

    def parts(self, root: Path, class_names: tuple[str, ...]) -> Parts:
        """The parts that have files."""
        opened = partial(_open, columns=self, class_names=class_names)
        return {part: partial(opened, paths) for part, paths in self._files_by_part(root).items()}

    def _files_by_part(self, root: Path) -> dict[str, list[Path]]:
        given, found = dict(self.patterns), {}
        for part, usual in _USUAL.items():
            patterns = (given[part],) if part in given else usual
            below = "" if part in given else "**/"
            paths = sorted({path for pattern in patterns for path in root.glob(below + pattern)})
            if not paths and part in given:
                raise DataError(f"no file in {root} is called {given[part]}; correct data.{part}")
            if paths:
                found[part] = paths
        _check_disjoint(found)
        if not found:
            raise DataError(
                f"no Parquet file in {root} is called train*, val* or test*; set data.root to the folder "
                "they are in, or give data.train, data.val and data.test as patterns"
            )
        return found


def _check_disjoint(files_by_part: dict[str, list[Path]]) -> None:
    """No file may be in two parts: a student would be tested on what chose it."""
    parts: dict[Path, str] = {}
    for part, paths in files_by_part.items():
        for path in paths:
            if (other := parts.setdefault(path.resolve(), part)) != part:
                raise DataError(
                    f"{path} would be in both {other} and {part}; give data.{part} another pattern, or leave "
                    "it out: of one held-out part half validates and half is kept for the test"
                )


def _open(paths: list[Path], *, columns: ParquetLayout, class_names: tuple[str, ...]) -> Store:
    files = [_read_schema(path) for path in paths]
    image = _choose(columns.image, files[0], _holds_images, "image")
    label = _choose(columns.label, files[0], _holds_classes, "label")
    if columns.names_given:
        _compare_names(paths[0], label, files[0], class_names)
    labels = [_labels(path, label) for path in paths]
    return ParquetStore(np.concatenate(labels), tuple(zip(paths, map(len, labels), strict=True)), image)


@dataclass(frozen=True, slots=True, eq=False)
class ParquetStore:
    """The rows of one part."""

    labels_B: NDArray[Any]
    """int64, from 0."""
    files: tuple[tuple[Path, int], ...]
    """Each file and how many rows it has."""
    column: str
    """The one with the images."""
    is_random: bool = False
    """Rows can only be read one after the other."""

    def read(self, rows_N: NDArray[Any], shape: Shape) -> NDArray[Any]:
        """The images of some rows, in the order that is asked for."""
        order = np.argsort(rows_N, kind="stable")
        sorted_NCHW = empty(len(rows_N), shape)
        decode_all(self._encoded(rows_N[order]), shape, sorted_NCHW)
        if np.array_equal(order, np.arange(len(order))):
            return sorted_NCHW
        out_NCHW = np.empty_like(sorted_NCHW)
        out_NCHW[order] = sorted_NCHW
        return out_NCHW

    def _encoded(self, rows_N: NDArray[Any]) -> Iterator[Encoded]:
        start = 0
        for path, count in self.files:
            low, high = np.searchsorted(rows_N, [start, start + count])
            yield from _images(path, self.column, rows_N[low:high] - start)
            start += count


def _images(path: Path, column: str, rows_N: NDArray[Any]) -> Iterator[Encoded]:
    """Encoded images of some rows of a file, ascending; row groups without any are not read."""
    import pyarrow.parquet as pq

    start = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.metadata.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            low, high = np.searchsorted(rows_N, [start, start + count])
            if low < high:
                yield from _of_group(file, path, group, column, start, rows_N[low:high])
            start += count


def _of_group(
    file: Any, path: Path, group: int, column: str, start: int, rows_N: NDArray[Any]
) -> Iterator[Encoded]:
    for batch in file.iter_batches(_ROWS_AT_ONCE, row_groups=[group], columns=[column]):
        low, high = np.searchsorted(rows_N, [start, start + len(batch)])
        cells = batch.column(0)
        for row in rows_N[low:high].tolist():
            yield _cell(cells[row - start].as_py(), f"{path}, row {row},")
        start += len(batch)


def _cell(cell: Any, name: str) -> Encoded:
    content, inner = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, None)
    name = f"{name} ({inner})" if inner else name
    if content is None:
        raise DataError(f"{name} has no bytes; write the data set again with the images inside")
    return Encoded(content, name)


def _read_schema(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path} is not a Parquet file that can be read ({reason}); restore it") from error


def _labels(path: Path, column: str) -> NDArray[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        labels = pq.read_table(path, columns=[column]).column(0)
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} has no column {column} that can be read ({str(error).splitlines()[0]})"
        ) from error
    if labels.null_count:
        raise DataError(f"{path} has {labels.null_count} rows without a {column}; leave them out")
    plain: NDArray[Any] = labels.to_numpy().astype(np.int64)
    return plain


def _choose(given: str | None, schema: Any, fits: Any, what: str) -> str:
    names: list[str] = [field.name for field in schema if fits(field.type)]
    if given is not None:
        if given not in names:
            have = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise DataError(f"no column {given!r} holds {what}s; the file has {have}; correct data.{what}")
        return given
    named = _stated(schema, "Image" if what == "image" else "ClassLabel")
    names = [name for name in names if name in named] or names
    if len(names) == 1:
        return names[0]
    have = f"{' and '.join(names)} both could" if names else "no column can"
    raise DataError(f"{have} hold the {what}s of this Parquet file; set data.{what} to the right one")


def _holds_images(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return _is_bytes(kind)


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _holds_classes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_integer(kind))


def _stated(schema: Any, feature: str) -> dict[str, Any]:
    """The columns that the Hugging Face library declared to be of a kind, and how."""
    raw = (schema.metadata or {}).get(b"huggingface")
    try:
        features = json.loads(raw)["info"]["features"] if raw else {}
        return {name: each for name, each in features.items() if each.get("_type") == feature}
    except (ValueError, LookupError, TypeError, AttributeError):  # the note is a courtesy, not the data
        return {}


def _compare_names(path: Path, label: str, schema: Any, class_names: Iterable[str]) -> None:
    stated = _stated(schema, "ClassLabel").get(label, {}).get("names")
    if stated is None or list(stated) == list(class_names):
        return
    pairs = zip(class_names, stated, strict=False)
    index, (ours, theirs) = next(
        ((index, pair) for index, pair in enumerate(pairs) if pair[0] != pair[1]), (len(stated), ("", ""))
    )
    raise DataError(
        f"{path} calls class {index} {theirs!r}, but data.classes calls it {ours!r}; give data.classes in "
        "the order of the file, or as a number"
    )


PARQUET = OwnData(name="parquet", layout=ParquetLayout.of)
