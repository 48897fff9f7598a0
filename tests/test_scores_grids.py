"""Estimators that score whole grids get all blended logits, and the memory plan counts them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.datasets.synthetic import make_phantoms
from sfumato.imaging import Geometry, Image
from sfumato.interfaces import FitContext, Method
from sfumato.methods.sample_difficulty import METHOD, SampleDifficulty
from sfumato.pipeline.case import PredictOptions, plan_case, predict_image
from sfumato.pipeline.windows import plan_windows
from sfumato.registry import get_method
from sfumato.types import Batch, Kind, Segmentation

FLOAT = PredictOptions(float32=True)


class Watched(SampleDifficulty):
    """Remembers what it was given."""

    given: Segmentation
    image: Tensor

    def grid_scores(self, batch: Batch, segmentation: Segmentation) -> Mapping[Kind, Tensor]:
        self.given, self.image = segmentation, batch.image
        return super().grid_scores(batch, segmentation)


@pytest.mark.parametrize(
    ("setup", "shape"),
    [
        ("softmax_2d", (70, 45)),
        ("sigmoid_2d", (34, 45)),
        ("softmax_2d", (34, 45, 12)),
        ("softmax_3d", (18, 16, 29)),
    ],
)
def test_the_whole_grid_is_handed_on_once(setup, shape, tiny_segmenter, phantoms):
    segmenter = tiny_segmenter(setup)
    fitted = METHOD.fit(METHOD.tiny, segmenter, phantoms(setup, 4, seed=31), [], FitContext(device="cpu"))
    estimator = Watched(METHOD.tiny, segmenter.spec)
    estimator.load_state_dict(fitted.estimator.state_dict())
    method = Method(METHOD, METHOD.tiny, segmenter, estimator.eval())
    phantom = make_phantoms(1, len(shape), 35, len(segmenter.spec.classes), grid=shape)[0]
    result = predict_image(method, Image(phantom.image, Geometry(shape), "phantom"), options=FLOAT)
    labels = estimator.given.labels()[0]
    if len(shape) > segmenter.spec.spatial_dims:  # slices come first on the network's grid
        assert labels.shape == (12, 34, 45)
        labels = labels.movedim(0, -1)
    np.testing.assert_array_equal(result.segmentation, labels.numpy())
    assert estimator.image.shape[2:] == estimator.given.logits.shape[2:]
    assert not estimator.given.features
    again = fitted.estimator.grid_scores(Batch(estimator.image), estimator.given)
    assert result.scores[Kind.ALEATORIC] == float(again[Kind.ALEATORIC])
    assert 0 <= result.scores[Kind.ALEATORIC] <= 1


@pytest.mark.parametrize("setup", ["softmax_2d", "sigmoid_2d"])
def test_kept_logits_are_planned_for(setup, tiny_segmenter):
    segmenter = tiny_segmenter(setup)
    plan = plan_windows((64, 96), segmenter.spec.window, segmenter.spec.divisor)
    softmax = get_method("softmax")
    kept = plan_case([METHOD.build(METHOD.tiny, segmenter)], plan, PredictOptions())
    without = plan_case([softmax.build(softmax.config(), segmenter)], plan, PredictOptions())
    channels = segmenter.segment(Batch(torch.zeros(1, 1, 32, 32))).logits.shape[1]
    assert kept.finished - without.finished == 64 * 96 * channels * torch.float32.itemsize
