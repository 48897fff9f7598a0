"""Sentences of CVC-ClinicDB: they agree with the masks, their published parts leak, and each has a contradiction."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sfumato.datasets import SPLIT_NAMES, Splits, find_leaks, read_text_table
from sfumato.datasets.binary_mask import read_binary_mask
from sfumato.datasets.text_variants import claims, contradiction, paraphrases
from sfumato.errors import DatasetError

pytestmark = pytest.mark.needs_data
LEVEL = "p6"


@pytest.fixture(scope="module")
def table(data_folder):
    folder = data_folder / "cvc_clinicdb"
    if not folder.is_dir():
        pytest.skip(f"no cvc_clinicdb in {data_folder}")
    return read_text_table(folder)


def some(splits, step):
    return Splits(*(splits[part][::step] for part in SPLIT_NAMES))


def test_boxes_and_sides_agree_with_the_masks(table):
    boxes = {}
    for part in ("train", "val", "test"):
        boxes |= {
            Path(r["img_name"]).stem: r["bbox"]
            for r in json.loads((table.folder / f"{part}.json").read_text())
        }
    assert set(boxes) == set(table.cases)
    agree, across = [], {"left": [], "right": []}
    for name in list(table.cases)[::4]:
        mask = read_binary_mask(table.cases[name].case.label).array
        rows, columns = np.nonzero(mask)
        found = [columns.min(), rows.min(), columns.max(), rows.max()]
        agree.append(np.abs(np.array(found) - boxes[name]).max() <= 1)
        told = claims(table.sentence(name, LEVEL).split("located in")[1])["position"] & set(across)
        if len(told) == 1:
            across[next(iter(told))].append(columns.mean() / mask.shape[1])
    assert np.mean(agree) > 0.97
    assert np.mean(across["left"]) < 0.5 < np.mean(across["right"])


def test_the_published_parts_share_sequences_and_images_and_parts_by_sequence_do_not(table):
    with pytest.raises(DatasetError, match="'sequence_1' is in both"):
        table.published_splits()
    published = find_leaks(table, some(table.published_splits(allow_leaks=True), 3), LEVEL)
    by_sequence = find_leaks(table, some(table.dataset().splits(), 3), LEVEL)
    assert published.patients
    assert not by_sequence.patients
    assert len(published.images) > 5 * len(by_sequence.images)


def test_every_sentence_has_a_contradiction_and_paraphrases_that_claim_the_same(table):
    sentences = [table.sentence(name, LEVEL) for name in table.cases]
    generator = np.random.default_rng(0)
    for sentence in sorted(set(sentences)):
        wrong = contradiction(sentence, sentences, generator)
        assert not claims(wrong)["position"] & claims(sentence)["position"]
        others = paraphrases(sentence)
        assert len(others) > 3
        assert all(claims(other) == claims(sentence) for other in others)
