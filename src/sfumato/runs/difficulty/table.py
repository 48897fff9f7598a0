"""The columns of an index: one row per case. `docs/reference/difficulty_index.md` says what each means."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow

Row = dict[str, Any]
"""One case: column -> value, plain types."""

UNDEFINED = math.nan
OK, ERROR = "ok", "error"
"""Statuses of a case that has a scale, and of one that could not be scored; see the page for those between."""
TEXT, WHOLE, NUMBER = "string", "int64", "float64"
TEXTS, WHOLES, NUMBERS = "list<string>", "list<int64>", "list<float64>"

CASE_COLUMNS = {
    "case": TEXT,
    "patient": TEXT,
    "split": TEXT,
    "status": TEXT,
    "message": TEXT,
    "images": TEXTS,
    "label": TEXT,
    "sha256": TEXT,
    "shape": WHOLES,
    "spacing": NUMBERS,
    "extractor": TEXT,
    "maps": TEXT,
    "axis": TEXT,
    "slices": WHOLE,
}
"""What the case is and how it was looked at."""
CLASS_COLUMNS = {
    "classes": TEXTS,
    "class_status": TEXTS,
    "class_rows": WHOLES,
    "class_columns": WHOLES,
    "class_rank": WHOLES,
    "class_present_rows": WHOLES,
    "class_energy": NUMBERS,
    "class_amplitude": NUMBERS,
    "class_row_centred": NUMBERS,
    "class_spectrum": "list<list<float64>>",
}
"""One entry per class map."""
LABEL_COLUMNS = {
    "label_status": TEXT,
    "label_message": TEXT,
    "segmenters": WHOLE,
    "disagreement": NUMBER,
    "worst_disagreement": NUMBER,
    "expected_disagreement": NUMBER,
    "surprise": NUMBER,
    "softmin": NUMBER,
    "confident_share": NUMBER,
    "size_log_ratio": NUMBER,
    "boundary_contrast": NUMBER,
    "boundary_alignment": NUMBER,
    "voxels": WHOLE,
    "foreground_voxels": WHOLE,
    "predicted_voxels": NUMBER,
}
"""What needs the label, or a segmenter; undefined without."""
VIEW_COLUMNS = {
    "convention": TEXT,
    "aggregate": TEXT,
    "energy": NUMBER,
    "amplitude": NUMBER,
    "row_centred": NUMBER,
    "auv": NUMBER,
    "class_auv": NUMBERS,
    "size_residual": NUMBER,
    "neighbour_distance": NUMBER,
    "atypicality": NUMBER,
    "damage": NUMBER,
    "damage_kind": TEXT,
    "image_score": NUMBER,
    "label_score": NUMBER,
    "difficulty": NUMBER,
    "duplicate_of": TEXT,
}
"""Computed from the stored columns and the reference when all cases are there."""
BULKY_COLUMNS = {"descriptor": "list<float32>", "quality": NUMBERS, "thumbnail": "binary"}
"""What neighbours are found by, and what people look at."""
COPY_COLUMNS = {
    "copy_kinds": TEXTS,
    "copy_descriptors": "list<list<float32>>",
    "copy_qualities": "list<list<float64>>",
}
"""Of damaged copies of the case, from which damage is learnt; empty for most cases."""
RAW_COLUMNS = (
    CASE_COLUMNS | CLASS_COLUMNS | LABEL_COLUMNS | BULKY_COLUMNS | COPY_COLUMNS | {"seconds": NUMBER}
)
"""Of a shard; the seconds go to the manifest, so that equal runs give equal indices."""
INDEX_COLUMNS = CASE_COLUMNS | VIEW_COLUMNS | LABEL_COLUMNS | CLASS_COLUMNS | BULKY_COLUMNS
"""Of the finished index, in this order."""
EMPTY = {TEXT: "", WHOLE: 0, NUMBER: UNDEFINED, "binary": b""}


def raw_schema() -> pyarrow.Schema:
    """Arrow schema of a shard."""
    return _schema(RAW_COLUMNS)


def index_schema() -> pyarrow.Schema:
    """Arrow schema of the index."""
    return _schema(INDEX_COLUMNS)


def _schema(columns: dict[str, str]) -> pyarrow.Schema:
    import pyarrow

    plain = {
        TEXT: pyarrow.string(),
        WHOLE: pyarrow.int64(),
        NUMBER: pyarrow.float64(),
        "float32": pyarrow.float32(),
        "binary": pyarrow.binary(),
    }

    def of(kind: str) -> Any:
        inner = kind.removeprefix("list<").removesuffix(">") if kind.startswith("list<") else None
        return plain[kind] if inner is None else pyarrow.list_(of(inner))

    return pyarrow.schema([(name, of(kind)) for name, kind in columns.items()])


def empty_row(columns: dict[str, str] | None = None) -> Row:
    """A row that says nothing yet: empty text and lists, undefined numbers.

    Example:
        >>> row = empty_row()
        >>> row["status"], row["classes"], math.isnan(row["disagreement"])
        ('', [], True)
    """
    return {
        name: [] if kind.startswith("list") else EMPTY[kind]
        for name, kind in (columns or RAW_COLUMNS).items()
    }
