from __future__ import annotations

import numpy as np
import pytest
import torch

from sfumato.methods.feature_density import moments as moments_module
from sfumato.methods.feature_density.moments import Moments, nearest_label


def drawn(rows=4, width=3, side=10, classes=3):
    g = torch.Generator().manual_seed(0)
    label = torch.randint(-1, classes, (rows, side, side), generator=g)
    feature = torch.randn(rows, width, side, side, generator=g) * torch.tensor([1.0, 3.0, 0.2]).reshape(
        1, 3, 1, 1
    )
    return 50 + feature + label[:, None], label


def gathered(feature, label, classes=3):
    found = Moments.zeros(classes, feature.shape[1])
    found.add(feature, label)
    return found


def columns(feature, label, c):
    return feature.movedim(1, -1)[label == c].double().numpy()


def test_means_and_covariances_are_numpy_s():
    feature, label = drawn()
    found = gathered(feature, label)
    parts = [columns(feature, label, c) for c in range(3)]
    np.testing.assert_allclose(found.means().numpy(), [p.mean(0) for p in parts], atol=1e-6)
    assert found.count.tolist() == [len(p) for p in parts]
    own = found.covariance(tied=False, shrinkage=1e-12).numpy()
    np.testing.assert_allclose(own, [np.cov(p.T, bias=True) for p in parts], atol=1e-6)
    shared = sum(len(p) * np.cov(p.T, bias=True) for p in parts) / sum(len(p) for p in parts)
    np.testing.assert_allclose(found.covariance(tied=True, shrinkage=1e-12).numpy(), [shared] * 3, atol=1e-6)


def test_shrinkage_goes_to_the_mean_variance():
    feature, label = drawn()
    found = gathered(feature, label)
    plain = found.covariance(tied=True, shrinkage=1e-12)[0].numpy()
    expected = 0.7 * plain + 0.3 * np.trace(plain) / 3 * np.eye(3)
    np.testing.assert_allclose(found.covariance(tied=True, shrinkage=0.3)[0].numpy(), expected, atol=1e-8)


def test_one_case_or_many_and_chunks_change_nothing(monkeypatch):
    feature, label = drawn()
    whole, parts = gathered(feature, label), Moments.zeros(3, 3)
    monkeypatch.setattr(moments_module, "CHUNK", 17)
    for row in range(len(feature)):
        parts.add(feature[row : row + 1], label[row : row + 1])
    for name in ("count", "total", "products"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name))


def test_a_class_with_too_few_voxels_takes_the_tied_covariance():
    feature, label = drawn()
    label[label == 2] = -1
    label[0, 0, :3] = 2  # three voxels of three channels: no covariance of its own
    found = gathered(feature, label)
    own, shared = found.covariance(False, 0.01), found.covariance(True, 0.01)
    torch.testing.assert_close(own[2], shared[2])
    assert not torch.allclose(own[1], shared[1])


def test_constant_features_have_a_positive_covariance():
    found = gathered(torch.ones(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), classes=2)
    torch.linalg.cholesky(found.covariance(tied=True, shrinkage=0.01))
    assert torch.isfinite(found.covariance(tied=False, shrinkage=0.01)).all()


@pytest.mark.parametrize("sides", [(6, 8), (6, 8, 4)])
def test_labels_go_to_the_nearest_coarse_voxel(sides):
    label = torch.arange(int(np.prod(sides))).reshape(1, *sides)
    coarse = tuple(n // 2 for n in sides)
    found = nearest_label(label, torch.Size(coarse))
    for place in np.ndindex(*coarse):
        # A coarse voxel's centre lies between two fine ones of each axis; the upper one is taken.
        assert found[(0, *place)] == label[(0, *(2 * i + 1 for i in place))]
    assert nearest_label(label, torch.Size(sides)) is label
