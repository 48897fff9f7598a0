"""The reference page of the index lists its columns, all of them and no others."""

import re
from pathlib import Path

from sfumato.runs.difficulty.table import INDEX_COLUMNS

PAGE = Path(__file__).parents[2] / "docs/reference/difficulty_index.md"


def test_the_page_lists_every_column():
    listed = re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(INDEX_COLUMNS)
