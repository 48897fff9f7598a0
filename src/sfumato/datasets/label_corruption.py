"""Labels drawn wrongly on purpose, to see who notices: seeded, three severities, the image untouched.

An object is a connected piece (neighbours by face, edge or corner) of one value above 0. Lengths are physical
(mm, or pixels of a picture) and strengths are shares of what was drawn, so they mean the same for a nucleus and an
organ. A severe change contains the mild one. Values below 0, which mean unknown, stay where they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from scipy import ndimage

from ..errors import ConfigError, InputError, UnknownNameError
from ..imaging import LabelMap
from .corruption import SEVERITIES

THICK = 2.0
"""An axis whose voxels are longer than this many of the finest is one of thick slices; a reader does not slip there."""


@dataclass(frozen=True)
class Drawing:
    """A label map and its objects.

    Args:
        labels: (*grid) integers.
        objects: (*grid) int32, 1 to the number of objects; 0 elsewhere.
        spacing: per axis.
        instances: numbers name objects of one class, not classes.
    """

    labels: np.ndarray
    objects: np.ndarray
    spacing: np.ndarray
    instances: bool = False

    def pieces(self) -> Iterator[tuple[tuple[slice, ...], np.ndarray]]:
        """Box and mask within it of every object, by number."""
        for number, box in enumerate(ndimage.find_objects(self.objects), 1):
            yield box, self.objects[box] == number

    def depth(self, mask: np.ndarray) -> np.ndarray:
        """Distance of every voxel of a mask to the nearest voxel outside it, which the edge of the grid is."""
        # A grid of one slice has no outside above and below.
        margin = [(1, 1) if n > 1 else (0, 0) for n in self.labels.shape]
        inner = tuple(slice(before, before + n) for (before, _), n in zip(margin, mask.shape, strict=True))
        padded = np.asarray(ndimage.distance_transform_edt(np.pad(mask, margin), sampling=self.spacing))
        return padded[inner]

    def places(self, voxels: np.ndarray) -> np.ndarray:
        """(voxels, axes) physical coordinates of flat indices."""
        return np.stack(np.unravel_index(voxels, self.labels.shape), axis=1) * self.spacing


Change = Callable[[Drawing, float, np.random.Generator], np.ndarray]
"""(drawing, strength, generator) -> new labels (*grid); what is drawn at random does not depend on the strength."""


def erode(drawing: Drawing, share: float, rng: np.random.Generator) -> np.ndarray:
    """Every object loses this share of its voxels, from its border inwards; among equally deep ones the remotest."""
    labels = drawing.labels.copy()
    for box, mask in drawing.pieces():
        places = np.argwhere(mask) * drawing.spacing
        remote = np.linalg.norm(places - places.mean(axis=0), axis=1)
        order = np.lexsort((-remote, drawing.depth(mask)[mask]))
        kept = mask[mask]
        kept[order[: _count(share, len(places))]] = False
        part = labels[box]
        part[mask] = np.where(kept, part[mask], 0)
    return labels


def dilate(drawing: Drawing, share: float, rng: np.random.Generator) -> np.ndarray:
    """Every object gains this share of its voxels, nearest first, from the background that is nearest to it.

    No object grows into another, so a walled-in one stays and a crowded one gains less.
    """
    labels = drawing.labels.copy()
    gained, owner = _ring(drawing, share)
    labels.flat[gained] = owner
    return labels


def _ring(drawing: Drawing, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Flat indices of the background around each object, a share of its voxels, and the value of that object."""
    objects, reach = drawing.objects, drawing.depth(drawing.objects > 0).max()
    found = ndimage.distance_transform_edt(objects == 0, sampling=drawing.spacing, return_indices=True)
    away, nearest = cast(tuple[np.ndarray, np.ndarray], found)
    # Hemmed in on one side, a plate gains its share within twice its half thickness on the other.
    near = (drawing.labels == 0) & (away <= 2 * share * reach + drawing.spacing.max())
    voxels = np.flatnonzero(near)
    owner = objects[tuple(axis[near] for axis in nearest)]
    sizes = np.bincount(objects.ravel())
    inside = np.flatnonzero(objects)
    sums = [
        np.bincount(objects.flat[inside], weights=w, minlength=len(sizes)) for w in drawing.places(inside).T
    ]
    centres = np.stack(sums, axis=1) / np.maximum(sizes, 1)[:, None]
    remote = np.linalg.norm(drawing.places(voxels) - centres[owner], axis=1)
    order = np.lexsort((remote, away[near], owner))
    rank = np.arange(len(order)) - np.searchsorted(owner[order], owner[order])
    taken = order[rank < np.floor(share * sizes[owner[order]] + 0.5)]
    source = np.stack([axis[near] for axis in nearest])[:, taken]
    return voxels[taken], drawing.labels[tuple(source)]


def shift(drawing: Drawing, share: float, rng: np.random.Generator) -> np.ndarray:
    """All labels move together, in a random direction, by a share of the typical thickness.

    That is the median over objects of the diameter of the largest ball inside, and at least 10 voxels, so that
    severities differ on specks. Nothing moves along thick slices; what leaves the grid is lost.
    """
    thickness = np.median([2 * drawing.depth(mask).max() for _, mask in drawing.pieces()])
    wide = np.array([n > 1 for n in drawing.labels.shape])
    fine = wide & (drawing.spacing <= THICK * drawing.spacing[wide].min())
    direction = rng.normal(size=drawing.labels.ndim) * fine
    direction /= np.linalg.norm(direction)
    steps = share * max(thickness, 10 * drawing.spacing[fine].min()) * direction / drawing.spacing
    if not np.rint(steps).any():
        steps = np.sign(steps) * (np.abs(steps) == np.abs(steps).max())
    moved = ndimage.shift(np.maximum(drawing.labels, 0), np.rint(steps), order=0, cval=0, prefilter=False)
    return np.where(drawing.labels < 0, drawing.labels, moved)


def swap(drawing: Drawing, share: float, rng: np.random.Generator) -> np.ndarray:
    """Two classes, drawn at random, exchange names in a share of their voxels, which lies to one side.

    Where there is one class (or numbers are instances) an object changes places with the ring of background around
    it that has its size, as far as there is room.
    """
    labels, values = drawing.labels.copy(), np.unique(drawing.labels[drawing.labels > 0])
    if len(values) > 1 and not drawing.instances:
        one, other = rng.choice(values, 2, replace=False)
        voxels = np.flatnonzero((labels == one) | (labels == other))
        renamed = one + other - labels.flat[voxels]
    else:
        ring, owner = _ring(drawing, 1.0)
        inside = np.flatnonzero(drawing.objects)
        voxels = np.concatenate([inside, ring])
        renamed = np.concatenate([np.zeros(len(inside), labels.dtype), owner])
    order = _from_one_side(drawing, voxels, rng).argsort(kind="stable")[: _count(share, len(voxels))]
    labels.flat[voxels[order]] = renamed[order]
    return labels


def omit(drawing: Drawing, share: float, rng: np.random.Generator) -> np.ndarray:
    """A share of what was drawn is missing: whole objects from the smallest up, the last one cut from one side."""
    labels = drawing.labels.copy()
    voxels = np.flatnonzero(drawing.objects)
    number = drawing.objects.flat[voxels]
    turn = np.bincount(number)[1:].argsort(kind="stable").argsort()[number - 1]
    order = np.lexsort((_from_one_side(drawing, voxels, rng), turn))
    labels.flat[voxels[order[: _count(share, len(voxels))]]] = 0
    return labels


def _from_one_side(drawing: Drawing, voxels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How far flat indices lie along a random direction."""
    return drawing.places(voxels) @ rng.normal(size=drawing.labels.ndim)


def _count(share: float, of: int) -> int:
    return int(share * of + 0.5)


LABEL_CORRUPTIONS: dict[str, tuple[Change, tuple[float, float, float]]] = {
    "erosion": (erode, (0.15, 0.35, 0.6)),
    "dilation": (dilate, (0.2, 0.5, 1.2)),
    "shift": (shift, (0.1, 0.25, 0.5)),
    "swap": (swap, (0.2, 0.5, 1.0)),
    "missing": (omit, (0.15, 0.4, 0.75)),
}
"""Name -> function and its strength at the three severities."""


def corrupt_label(
    label: LabelMap, name: str, severity: int, seed: int = 0, instances: bool = False
) -> LabelMap:
    """The label map with one corruption; a function of what is passed alone.

    Args:
        label: as read; its type is kept, and no value appears that was not there.
        name: one of `LABEL_CORRUPTIONS`.
        severity: 1 mild, 2 middle, 3 severe.
        seed: of what is random in it.
        instances: values number objects of one class.

    Raises:
        UnknownNameError: no such corruption.
        ConfigError: another severity.
        InputError: no foreground, or so little that nothing changed.

    Example:
        >>> from sfumato.imaging import Geometry
        >>> square = np.zeros((12, 12), np.int32)
        >>> square[1:11, 1:11] = 4
        >>> label = LabelMap(square, Geometry((12, 12)), "square")
        >>> [int((corrupt_label(label, "missing", severity).array == 4).sum()) for severity in (1, 2, 3)]
        [85, 60, 25]
    """
    if severity not in SEVERITIES:
        raise ConfigError(f"severity={severity}, expected one of {', '.join(map(str, SEVERITIES))}.")
    if name not in LABEL_CORRUPTIONS:
        raise UnknownNameError("label corruption", name, LABEL_CORRUPTIONS)
    if not (label.array > 0).any():
        raise InputError(
            f"{label.name}: no foreground in the label, nothing to corrupt; leave this case out."
        )
    change, strengths = LABEL_CORRUPTIONS[name]
    # Without the severity: a severe case is the mild one, made worse.
    digest = hashlib.sha256(f"{label.name} {name}".encode()).digest()
    drawing = Drawing(label.array, _objects(label.array), np.asarray(label.geometry.spacing), instances)
    changed = change(drawing, strengths[severity - 1], np.random.default_rng([seed, *digest[:8]]))
    if np.array_equal(changed, label.array):
        raise InputError(
            f"{label.name}: {name} of severity {severity} changes nothing in so small or crowded a label; "
            "choose another corruption for this case."
        )
    return replace(label, array=changed)


def _objects(labels: np.ndarray) -> np.ndarray:
    """Connected pieces (*grid) of every value above 0, numbered from 1 by value."""
    objects, count = np.zeros(labels.shape, np.int32), 0
    dense = np.zeros(labels.shape, np.int32)
    dense[labels > 0] = np.unique(labels[labels > 0], return_inverse=True)[1] + 1
    for number, box in enumerate(ndimage.find_objects(dense), 1):
        neighbours = np.ones((3,) * labels.ndim)
        found, pieces = cast(tuple[np.ndarray, int], ndimage.label(dense[box] == number, neighbours))
        objects[box] += np.where(found > 0, found + count, 0).astype(np.int32)
        count += pieces
    return objects
