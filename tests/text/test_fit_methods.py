"""Methods that know nothing of sentences, fitted on a network that reads them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError
from sfumato.imaging import read_image
from sfumato.methods.test_time_augmentation import TestTimeAugmentationConfig
from sfumato.pipeline.case import PredictOptions, predict_image
from sfumato.registry import get_method
from sfumato.runs.evaluate import evaluate_method
from sfumato.runs.fit import FitOptions, fit_method
from sfumato.runs.predict import predict_files
from sfumato.runs.text.fit import TextFitOptions, fit_texts
from sfumato.runs.text.model import open_text_model
from sfumato.storage import load_segmenter
from sfumato.types import Batch, TextPrompt

CPU = FitOptions(device="cpu")
SHORT = {"width": 8, "hidden": 8, "epochs": 1, "folds": 0}
METHODS = {
    "softmax": {},
    "temperature_scaling": {},
    "feature_density": {},
    "mc_dropout": {"passes": 2},
    "test_time_augmentation": {"tolerance": 1.0},
    "error_head": SHORT,
    "perturbation_head": SHORT | {"probes": 4, "pairs": 512},
}


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_says_hangs_on_the_sentence(name, trained, discs, tmp_path):
    out = tmp_path / name
    fit_texts(trained, discs, out, TextFitOptions(name, METHODS[name], fit=CPU))
    method, record = open_text_model(out)
    assert method.name == name
    assert record["rules"]["case"]
    image = read_image((discs / "images/c14.png",), "c14")
    left, again, right = (
        predict_image(method, image, options=PredictOptions(float32=True), prompt=TextPrompt((sentence,)))
        for sentence in ("one polyp in the left", "one polyp in the left", "one polyp in the right")
    )
    # Two epochs teach little, so that the change is small, but what is not read changes nothing at all.
    assert np.array_equal(left.probability, again.probability)
    assert not np.array_equal(left.probability, right.probability)
    ranked = method.spec.maps[0]
    assert np.array_equal(left.maps[ranked], again.maps[ranked])
    assert not np.array_equal(left.maps[ranked], right.maps[ranked])


def test_every_pass_of_a_batch_gets_its_own_sentence(trained):
    segmenter = load_segmenter(trained)
    spec = get_method("mc_dropout")
    method = spec.build(spec.config(passes=2), segmenter)
    image = torch.randn(1, 3, 40, 48, generator=torch.Generator().manual_seed(0)).expand(2, -1, -1, -1)
    said = TextPrompt(("one polyp in the left", "one polyp in the right"))
    together = method.predict(Batch(image, said)).uncertainty.probability
    alone = [method.predict(row).uncertainty.probability for row in Batch(image, said).rows()]
    assert together is not None
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)  # type: ignore[arg-type]


def test_nothing_is_mirrored_where_a_sentence_names_a_side(trained):
    segmenter, spec = load_segmenter(trained), get_method("test_time_augmentation")
    names = [a.name for a in spec.build(spec.config(), segmenter).estimator.source.augmentations]
    assert names
    assert not [name for name in names if "flip" in name]
    with pytest.raises(ConfigError, match="a sentence that names a side is false"):
        spec.build(TestTimeAugmentationConfig(flips=(1,)), segmenter)


def test_where_no_sentence_would_be_given_the_network_is_refused(trained, discs, tmp_path):
    out = tmp_path / "softmax"
    fit_texts(trained, discs, out, TextFitOptions("softmax", fit=CPU))
    with pytest.raises(ConfigError, match="use `sfumato predict text_guided"):
        predict_files(out, [Path(discs / "images/c14.png")], tmp_path / "out")
    with pytest.raises(ConfigError, match="use `sfumato evaluate text_guided"):
        evaluate_method(out, discs)
    with pytest.raises(ConfigError, match="reads sentences and would get none"):
        fit_method("softmax", load_segmenter(trained), discs, tmp_path / "plain")
    with pytest.raises(ConfigError, match="told a SpatialPrompt"):
        fit_texts(trained, discs, tmp_path / "sam", TextFitOptions("sam_gaps", fit=CPU))
