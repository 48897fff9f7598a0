"""All methods on one segmenter, in one pass over the windows, give what each gives alone."""

from __future__ import annotations

import numpy as np
import pytest

from sfumato.datasets.synthetic import make_phantoms
from sfumato.imaging import Geometry, Image
from sfumato.interfaces import FitContext
from sfumato.pipeline.case import PredictOptions, predict_image, predict_methods
from sfumato.registry import get_method, list_methods

GRIDS = {"softmax_2d": (34, 45), "sigmoid_2d": (34, 45), "softmax_3d": (18, 16, 29)}
"""Larger than the window, and not multiples of the divisor."""


@pytest.mark.parametrize("setup", GRIDS)
def test_methods_that_share_a_pass_do_not_see_each_other(setup, tiny_segmenter, tiny_members, phantoms):
    segmenter = tiny_segmenter(setup)
    fitting, calibration = phantoms(setup, 3, seed=21), phantoms(setup, 2, seed=22)
    specs = [spec for spec in map(get_method, list_methods()) if not spec.prompt]
    contexts = [FitContext(device="cpu", networks=tiny_members(setup) if s.networks else ()) for s in specs]
    methods = [
        s.fit(s.tiny, segmenter, fitting, calibration, context)
        for s, context in zip(specs, contexts, strict=True)
    ]
    phantom = make_phantoms(1, len(GRIDS[setup]), 23, len(segmenter.spec.classes), grid=GRIDS[setup])[0]
    image = Image(phantom.image, Geometry(GRIDS[setup]), "phantom")
    options = PredictOptions(float32=True)
    together = predict_methods(methods, image, options=options)
    for method, shared in zip(methods, together, strict=True):
        alone = predict_image(method, image, options=options)
        np.testing.assert_array_equal(shared.segmentation, alone.segmentation, err_msg=method.name)
        np.testing.assert_allclose(shared.probability, alone.probability, atol=1e-6, err_msg=method.name)
        assert set(shared.maps) == set(alone.maps) == set(method.spec.maps)
        for kind, value in alone.maps.items():
            np.testing.assert_allclose(
                shared.maps[kind], value, rtol=1e-5, atol=1e-6, err_msg=f"{method.name} {kind}"
            )
        assert set(shared.scores) == set(alone.scores)
        for kind, score in alone.scores.items():
            assert shared.scores[kind] == pytest.approx(score, rel=1e-5, abs=1e-6), f"{method.name} {kind}"
