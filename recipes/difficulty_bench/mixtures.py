"""Mixtures of sound and faulty cases, and what every score says of them, from what `describe.py` and `agree.py` wrote.

For each kind of fault, severity and prevalence a share of the cases is drawn and replaced by its faulty version; scores
that look at other cases are computed anew in that mixture.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from sfumato.datasets.corruption import CORRUPTIONS, SEVERITIES
from sfumato.datasets.label_corruption import LABEL_CORRUPTIONS
from sfumato.methods.sample_difficulty.combined import combine
from sfumato.methods.sample_difficulty.damage import Lessons, cross_fitted
from sfumato.methods.sample_difficulty.neighbours import Ruler, atypicality, neighbour_distances
from sfumato.methods.sample_difficulty.size import SizeTrend

from agree import IMAGE_COLUMNS, LABEL_COLUMNS, MIDDLE  # isort: skip

PREVALENCES = (0.05, 0.1, 0.2)
DRAWS = 5
CONVENTIONS = ("energy", "amplitude", "row_centred")


@dataclass(frozen=True)
class Described:
    """Of all cases: name of a variant -> (cases, numbers) per column."""

    columns: dict[str, dict[str, np.ndarray]]
    kinds: list[str]
    owners: np.ndarray
    lessons: list[np.ndarray]

    @classmethod
    def read(cls, folder: Path) -> "Described":
        files = [np.load(path) for path in sorted(folder.glob("*.npz"))]
        columns: dict[str, dict[str, np.ndarray]] = {}
        taught = [[i for i, v in enumerate(f["variants"]) if v.endswith("taught")] for f in files]
        for column in ("descriptor", "quality", "energy_map", "prototype"):
            by_variant: dict[str, list[np.ndarray]] = {}
            for file in files:
                table = file[column]
                for position, variant in enumerate(file["variants"]):
                    if variant.endswith("test"):
                        by_variant.setdefault(variant.rsplit("|", 1)[0], []).append(table[position])
            columns[column] = {name: np.array(rows) for name, rows in by_variant.items()}
        kinds = [
            str(f["variants"][i]).split("|")[0] for f, rows in zip(files, taught, strict=True) for i in rows
        ]
        owners = np.concatenate([[n] * len(rows) for n, rows in enumerate(taught)])
        lessons = [
            np.concatenate([f[c][rows] for f, rows in zip(files, taught, strict=True)])
            for c in ("descriptor", "quality")
        ]
        return cls(columns, kinds, owners, lessons)

    def mixed(self, column: str, kind: str, severity: int, wrong: np.ndarray) -> np.ndarray:
        clean, damaged = self.columns[column]["clean|0"], self.columns[column][f"{kind}|{severity}"]
        return np.where(wrong[:, None], damaged, clean)

    def scores(self, kind: str, severity: int, wrong: np.ndarray, left_out: bool) -> dict[str, np.ndarray]:
        """Every label-free score of every case of the mixture; higher = more doubtful."""
        blocks = [self.mixed(column, kind, severity, wrong) for column in ("descriptor", "quality")]
        found = {}
        for source in ("prototype", "energy_map"):
            scales = self.mixed(source, kind, severity, wrong)
            found |= {f"AUV {source} {c}": -np.log(scales[:, i] + 1e-12) for i, c in enumerate(CONVENTIONS)}
        standard = Ruler.of(blocks).standardised(blocks)
        found["neighbour_distance"] = neighbour_distances(standard)
        found["atypicality"] = atypicality(standard)
        found["damage"] = self._damage(blocks, lambda k: True)
        found["image"] = combine(found, found)["image"]
        if left_out:
            unseen = self._damage(blocks, lambda k: k != kind)
            found["damage, kind left out"] = unseen
            others = found | {"damage": unseen}
            found["image, kind left out"] = combine(others, others)["image"]
        return found

    def _damage(self, blocks: list[np.ndarray], shown) -> np.ndarray:
        keep = np.array([shown(kind) for kind in self.kinds])
        kinds = tuple(k for k, s in zip(self.kinds, keep, strict=True) if s)
        return cross_fitted(Lessons(blocks, [b[keep] for b in self.lessons], kinds, self.owners[keep]))[0]


def draws(cases: int, prevalence: float) -> list[np.ndarray]:
    found = []
    for draw in range(DRAWS):
        wrong = np.zeros(cases, bool)
        order = np.random.default_rng([draw, 7]).permutation(cases)
        wrong[order[: max(1, round(prevalence * cases))]] = True
        found.append(wrong)
    return found


def judged(wrong: np.ndarray, scores: dict[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    out = {}
    for name, values in scores.items():
        known = np.isfinite(values)
        if wrong[known].any() and not wrong[known].all():
            y, v = wrong[known], values[known]
            out[name] = (roc_auc_score(y, v), average_precision_score(y, v))
    return out


def image_rows(data: str, described: Described) -> list[dict]:
    cases = len(described.columns["quality"]["clean|0"])
    rows = []
    for kind in CORRUPTIONS:
        for severity in SEVERITIES:
            for prevalence in PREVALENCES:
                main = severity == MIDDLE and prevalence == 0.1
                for draw, wrong in enumerate(draws(cases, prevalence)):
                    found = judged(wrong, described.scores(kind, severity, wrong, main))
                    rows += [
                        row(data, "image", kind, severity, prevalence, draw, n, v) for n, v in found.items()
                    ]
    return rows


def row(data, target, kind, severity, prevalence, draw, score, value) -> dict:
    return {
        "data": data, "target": target, "kind": kind, "severity": severity, "prevalence": prevalence,
        "draw": draw, "score": score, "auroc": value[0], "ap": value[1],
    }  # fmt: skip


def label_scores(table: np.ndarray) -> dict[str, np.ndarray]:
    found = {name: table[:, i] for i, name in enumerate(LABEL_COLUMNS)}
    found["size_log_ratio"] = np.abs(found["size_log_ratio"])
    return {n: v for n, v in found.items() if n != "expected"} | {"label": combine(found, found)["label"]}


def agreed(folder: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Variant -> (cases, columns) of labels and of images; NaN where a fault was not possible."""
    files = [np.load(path) for path in sorted(folder.glob("*.npz"))]
    tables = []
    for names, rows, columns in (
        ("labels", "label_rows", LABEL_COLUMNS),
        ("images", "image_rows", IMAGE_COLUMNS),
    ):
        variants = sorted({str(v) for f in files for v in f[names]})
        table = {v: np.full((len(files), len(columns)), np.nan) for v in variants}
        for number, file in enumerate(files):
            for variant, values in zip(file[names], file[rows], strict=True):
                table[str(variant)][number] = values
        tables.append(table)
    return tables[0], tables[1]


def label_rows(data: str, labels: dict[str, np.ndarray]) -> list[dict]:
    rows = []
    for kind in LABEL_CORRUPTIONS:
        for severity in SEVERITIES:
            for prevalence in PREVALENCES:
                for draw, wrong in enumerate(draws(len(labels["clean|0"]), prevalence)):
                    mixed = np.where(wrong[:, None], labels[f"{kind}|{severity}"], labels["clean|0"])
                    found = judged(wrong, label_scores(mixed))
                    rows += [
                        row(data, "label", kind, severity, prevalence, draw, n, v) for n, v in found.items()
                    ]
    return rows


def segmenter_scores(table: np.ndarray) -> dict[str, np.ndarray]:
    """Scores from the logits of a segmenter that never saw the case."""
    column = {name: table[:, i] for i, name in enumerate(IMAGE_COLUMNS)}
    found = {f"AUV logits {c}": -np.log(column[c] + 1e-12) for c in CONVENTIONS}
    size = {"size": column["predicted_voxels"]}
    if np.unique(column["slices"]).size > 3:
        size["slices"] = column["slices"]
    found["AUV logits, size residual"] = SizeTrend.fit(column["energy"], size).residual(
        column["energy"], size
    )
    return found | {"expected 1 - Dice": column["expected"], "small object": -column["predicted_voxels"]}


def segmenter_rows(data: str, images: dict[str, np.ndarray]) -> list[dict]:
    rows = []
    for kind in CORRUPTIONS:
        for draw, wrong in enumerate(draws(len(images["clean|0"]), 0.1)):
            mixed = np.where(wrong[:, None], images[f"{kind}|{MIDDLE}"], images["clean|0"])
            found = judged(wrong, segmenter_scores(mixed))
            rows += [row(data, "image", kind, MIDDLE, 0.1, draw, n, v) for n, v in found.items()]
    return rows
