import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from sfumato.methods.softmax import SoftmaxEstimator
from sfumato.types import Batch, Kind, Link, Segmentation


@pytest.mark.parametrize("link", list(Link))
def test_maps_are_those_of_scipy(link):
    channels = 1 if link is Link.SIGMOID else 4
    logits = torch.randn(2, channels, 5, 6, generator=torch.Generator().manual_seed(0))
    batch = Batch(torch.zeros(2, 1, 5, 6))
    result = SoftmaxEstimator().estimate(batch, Segmentation(logits, link))
    full = np.concatenate([np.zeros_like(logits), logits], 1) if link is Link.SIGMOID else logits.numpy()
    p = np.exp(full) / np.exp(full).sum(1, keepdims=True)
    np.testing.assert_allclose(result.maps[Kind.PREDICTIVE], scipy_entropy(p, axis=1), atol=1e-6)
    np.testing.assert_allclose(result.maps[Kind.ERROR], 1 - p.max(1), atol=1e-6)
    assert result.temperature is None
