"""What people point at: one prompt per object, from the command line or from a file.

The file is JSON: `{"objects": [...]}` for one image, `{"images": {"CASE": [...], ...}}` for several. An object is

    {"name": "left", "points": [[120, 88, 1], [100, 90, 0]], "box": [80, 60, 150, 130], "slice": 12}

with rows and columns counted from 0 in the file's axis order, 1 for a click inside of the object and 0 for one outside.
`name` may be left out; `slice` counts along the thickest axis and belongs to volumes alone. Objects of one name on
several slices are one object.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import InputError
from ..types import SpatialPrompt

OBJECT_FIELDS = {"name", "points", "box", "slice"}
SIGNS = {"+": 1, "-": 0}


@dataclass(frozen=True)
class ObjectPrompt:
    """What is said of one object on one plane.

    Args:
        name: of the object.
        points: clicks (row, column, sign), sign 1 inside and 0 outside.
        box: (row, column, row, column) of two opposite corners.
        plane: slice of a volume; None in a picture.
    """

    name: str
    points: tuple[tuple[float, float, int], ...] = ()
    box: tuple[float, float, float, float] | None = None
    plane: int | None = None


def spatial_rows(prompts: Sequence[ObjectPrompt]) -> SpatialPrompt:
    """Prompts as rows for a network.

    Example:
        >>> rows = spatial_rows([ObjectPrompt("a", ((3, 4, 1),)), ObjectPrompt("b", (), (1, 1, 5, 6))])
        >>> rows.signs.tolist(), rows.corners[1].tolist()
        ([[1], [-1]], [[1.0, 1.0], [5.0, 6.0]])
    """
    clicks = SpatialPrompt.of_points([prompt.points for prompt in prompts])
    if all(prompt.box is None for prompt in prompts):
        return clicks
    missing = (math.nan,) * 4
    corners = torch.tensor([prompt.box or missing for prompt in prompts], dtype=torch.float32)
    return SpatialPrompt(clicks.coordinates, clicks.signs, corners.reshape(-1, 2, 2))


def read_prompts(path: Path) -> dict[str | None, tuple[ObjectPrompt, ...]]:
    """Prompts by case; those of a file for one image stand under None.

    Raises:
        InputError: unreadable, not of this format, or an object that nothing points at; says which.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "prompts.json"
        ...     _ = path.write_text('{"objects": [{"points": [[3, 4, 1]]}]}')
        ...     read_prompts(path)[None][0]
        ObjectPrompt(name='object_1', points=((3.0, 4.0, 1),), box=None, plane=None)
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a readable prompts file ({error}); expected JSON.") from error
    if not isinstance(content, dict) or len(content) != 1 or not {"objects", "images"} & set(content):
        raise InputError(f'{path}: expected {{"objects": [...]}} or {{"images": {{"CASE": [...]}}}}.')
    if "objects" in content:
        return {None: _objects(content["objects"], str(path))}
    if not isinstance(content["images"], dict):
        raise InputError(
            f"{path}: images are a {type(content['images']).__name__}, expected case: [objects]."
        )
    return {str(case): _objects(given, f"{path}, {case}") for case, given in content["images"].items()}


def parse_point(text: str) -> tuple[float, float, int]:
    """`ROW,COLUMN`, `ROW,COLUMN,+` or `ROW,COLUMN,-`.

    Raises:
        InputError: anything else.

    Example:
        >>> parse_point("120,88"), parse_point("3,4.5,-")
        ((120.0, 88.0, 1), (3.0, 4.5, 0))
    """
    parts = [part.strip() for part in text.split(",")]
    numbers = [_number(part) for part in parts[:2]]
    if len(parts) in (2, 3) and None not in numbers and (len(parts) == 2 or parts[2] in SIGNS):
        return numbers[0], numbers[1], SIGNS[parts[2]] if len(parts) == 3 else 1  # type: ignore[return-value]
    raise InputError(f"--point {text!r}, expected ROW,COLUMN or ROW,COLUMN,- such as 120,88 or 120,88,-.")


def parse_box(text: str) -> tuple[float, float, float, float]:
    """`ROW,COLUMN,ROW,COLUMN` of two opposite corners.

    Raises:
        InputError: anything else.

    Example:
        >>> parse_box("80,60,150,130")
        (80.0, 60.0, 150.0, 130.0)
    """
    numbers = [_number(part) for part in text.split(",")]
    if len(numbers) != 4 or None in numbers:
        raise InputError(f"--box {text!r}, expected ROW,COLUMN,ROW,COLUMN such as 80,60,150,130.")
    return tuple(numbers)  # type: ignore[return-value]


def check_prompts(
    prompts: Sequence[ObjectPrompt], sides: tuple[int, int], planes: int | None, case: str
) -> None:
    """Refuse prompts that do not fit an image.

    Args:
        prompts: at least one.
        sides: height and width of a plane in pixels.
        planes: slices of a volume; None for a picture.
        case: as messages call it.

    Raises:
        InputError: no prompts, clicks or boxes outside, a box without area, a slice where there are none or none
            where there are some.
    """
    if not prompts:
        raise InputError(f"{case}: no prompts, expected a click or a box; name it in the prompts file.")
    for prompt in prompts:
        where = f"{case}, {prompt.name}"
        if planes is None and prompt.plane is not None:
            raise InputError(f"{where}: slice {prompt.plane} of a picture, expected none; leave it out.")
        if planes is not None and (prompt.plane is None or not 0 <= prompt.plane < planes):
            raise InputError(
                f"{where}: slice {prompt.plane}, expected 0 to {planes - 1}; say on which it lies."
            )
        boxed = [] if prompt.box is None else [prompt.box[:2], prompt.box[2:]]
        for row, column in [*(p[:2] for p in prompt.points), *boxed]:
            if not (0 <= row <= sides[0] - 1 and 0 <= column <= sides[1] - 1):
                raise InputError(
                    f"{where}: row {row:g}, column {column:g} lies outside, expected rows 0 to {sides[0] - 1} and "
                    f"columns 0 to {sides[1] - 1}."
                )
        if prompt.box is not None and (prompt.box[0] == prompt.box[2] or prompt.box[1] == prompt.box[3]):
            raise InputError(f"{where}: the box {prompt.box} has no area, expected two opposite corners.")


def _objects(given: Any, where: str) -> tuple[ObjectPrompt, ...]:
    if not isinstance(given, list) or not given:
        raise InputError(f"{where}: objects are {given!r:.60}, expected a list of at least one object.")
    found = tuple(_object(item, f"{where}, object {i}", f"object_{i}") for i, item in enumerate(given, 1))
    places = [(prompt.name, prompt.plane) for prompt in found]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        on = "" if twice[1] is None else f" on slice {twice[1]}"
        raise InputError(
            f"{where}: two objects called {twice[0]!r}{on}, expected one; put their clicks together."
        )
    return found


def _object(given: Any, where: str, name: str) -> ObjectPrompt:
    unknown = sorted(set(given) - OBJECT_FIELDS) if isinstance(given, Mapping) else ["no fields"]
    if unknown:
        raise InputError(
            f"{where}: has {', '.join(unknown)}, expected {', '.join(sorted(OBJECT_FIELDS))} alone."
        )
    points, box, plane = given.get("points", []), given.get("box"), given.get("slice")
    if not isinstance(points, list) or not all(_is_numbers(p, 3) and p[2] in (0, 1) for p in points):
        raise InputError(f"{where}: points {points!r:.60}, expected [[row, column, 1 or 0], ...].")
    if box is not None and not _is_numbers(box, 4):
        raise InputError(f"{where}: box {box!r:.60}, expected [row, column, row, column].")
    if plane is not None and (isinstance(plane, bool) or not isinstance(plane, int)):
        raise InputError(f"{where}: slice {plane!r:.20}, expected a whole number from 0.")
    if box is None and not any(p[2] == 1 for p in points):
        raise InputError(f"{where}: no box and no click inside of it, expected at least one of them.")
    name = given.get("name", name)
    if not isinstance(name, str) or not name:
        raise InputError(f"{where}: name {name!r:.20}, expected a text that is not empty.")
    clicks = tuple((float(p[0]), float(p[1]), int(p[2])) for p in points)
    return ObjectPrompt(name, clicks, None if box is None else tuple(map(float, box)), plane)  # type: ignore[arg-type]


def _is_numbers(given: Any, count: int) -> bool:
    return (
        isinstance(given, list)
        and len(given) == count
        and all(isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in given)
    )


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
