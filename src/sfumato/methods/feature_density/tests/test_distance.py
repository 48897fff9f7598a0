from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.methods.feature_density import distance as distance_module
from sfumato.methods.feature_density.distance import ClassGaussians
from sfumato.methods.feature_density.moments import Moments


def fitted(tied: bool, scale: float = 1.0, absent: bool = False, offset: float = 30.0):
    g = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (2, 8, 9), generator=g)
    if absent:
        label[label == 2] = 0
    feature = scale * (offset + torch.randn(2, 4, 8, 9, generator=g) + label[:, None])
    moments = Moments.zeros(3, 4)
    moments.add(feature, label)
    gaussians = ClassGaussians(3, 4, tied)
    gaussians.fit(moments, 0.01)
    return gaussians, moments, feature


@pytest.mark.parametrize("tied", [True, False])
def test_distances_are_their_slow_twin(tied):
    gaussians, moments, feature = fitted(tied)
    found = gaussians(feature)
    means, inverse = moments.means().numpy(), np.linalg.inv(moments.covariance(tied, 0.01).numpy())
    for row, y, x in ((0, 0, 0), (1, 7, 8), (0, 3, 4)):
        for c in range(3):
            rest = feature[row, :, y, x].double().numpy() - means[c]
            assert float(found[row, c, y, x]) == pytest.approx(rest @ inverse[c] @ rest, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("tied", [True, False])
def test_chunks_change_nothing_and_volumes_work(tied, monkeypatch):
    gaussians, _, feature = fitted(tied)
    whole = gaussians(feature)
    monkeypatch.setattr(distance_module, "CHUNK", 11)
    torch.testing.assert_close(gaussians(feature), whole)
    torch.testing.assert_close(gaussians(feature.unflatten(3, (3, 3))), whole.unflatten(3, (3, 3)))


@pytest.mark.parametrize("tied", [True, False])
def test_the_scale_of_the_features_does_not_matter(tied):
    one, _, feature = fitted(tied)
    other, _, scaled = fitted(tied, scale=1e3)
    torch.testing.assert_close(one(feature), other(scaled), rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("tied", [True, False])
def test_the_mean_distance_of_the_fitted_voxels_is_the_width(tied):
    # E (f - mu)^T Sigma^-1 (f - mu) = width, up to the shrinkage.
    gaussians, _, feature = fitted(tied)
    assert float(gaussians(feature).amin(dim=1).mean()) < 4 * 1.05
    assert float(gaussians(feature).min()) >= 0


@pytest.mark.parametrize("tied", [True, False])
def test_a_class_without_voxels_is_as_far_as_the_nearest_known_one(tied):
    gaussians, _, feature = fitted(tied, absent=True)
    found = gaussians(feature)
    assert gaussians.known.tolist() == [True, True, False]
    torch.testing.assert_close(found[:, 2], found[:, :2].amin(dim=1))


def test_voxels_far_away_stay_finite():
    gaussians, _, feature = fitted(True)
    assert torch.isfinite(gaussians(1e8 * feature)).all()
