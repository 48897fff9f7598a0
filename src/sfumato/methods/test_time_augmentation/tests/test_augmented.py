from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import nn

from sfumato.errors import ConfigError, InputError
from sfumato.interfaces import FitContext
from sfumato.measures.entropy import entropy
from sfumato.methods.test_time_augmentation import METHOD, TestTimeAugmentationConfig
from sfumato.methods.test_time_augmentation.rotation import in_view, rotate
from sfumato.methods.test_time_augmentation.vetting import overlap_sums, pooled_dice
from sfumato.metrics import dice_per_class
from sfumato.segmenters import wrap
from sfumato.types import Batch, Kind

CONTEXT = FitContext(device="cpu")
ONLY_FLIPS = TestTimeAugmentationConfig(rotations=(), gains=(), shifts=(), gammas=())


class LeftIsOne(nn.Module):
    """Bright voxels are foreground, but only in the left half: mirrored images mean nothing to it."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(8.0))

    def forward(self, image):
        side = torch.linspace(1, -1, image.shape[-1]).sign()
        z = self.scale * (((image > 0) & (side > 0)).float() - 0.5)
        return torch.cat([-z, z], dim=1)


def one_sided():
    return wrap(LeftIsOne(), 2, spatial_dims=2, window=(8, 8), divisor=1, taps=("image",))


def one_sided_cases(count=3):
    g = torch.Generator().manual_seed(0)
    images = [torch.randn(1, 1, 8, 8, generator=g) for _ in range(count)]
    left = torch.arange(8) < 4
    return [Batch(x, label=((x[:, 0] > 0) & left).long()) for x in images]


def test_what_the_network_does_not_take_is_dropped_and_said():
    lines: list[str] = []
    method = METHOD.fit(ONLY_FLIPS, one_sided(), one_sided_cases(), [], replace(CONTEXT, say=lines.append))
    assert method.estimator.source.kept.tolist() == [True, False]
    assert lines == [
        "left out: flip of axis 1, Dice 0.000 instead of 1.000",
        "2 passes, the plain one included",
    ]
    assert method.estimator.pass_count == 2
    # What is kept agrees, so there is no doubt between passes.
    uncertainty = method.predict(one_sided_cases(1)[0]).uncertainty
    assert uncertainty.maps[Kind.EPISTEMIC].max() < 1e-5


def test_the_tolerance_decides():
    config = replace(ONLY_FLIPS, tolerance=1.0)
    method = METHOD.fit(config, one_sided(), one_sided_cases(), [], CONTEXT)
    assert method.estimator.source.kept.all()
    assert method.predict(one_sided_cases(1)[0]).uncertainty.maps[Kind.EPISTEMIC].max() > 0.1


def test_what_is_kept_is_part_of_the_state():
    fitted = METHOD.fit(ONLY_FLIPS, one_sided(), one_sided_cases(), [], CONTEXT)
    again = METHOD.build(ONLY_FLIPS, one_sided())
    assert again.estimator.pass_count == 3
    again.estimator.load_state_dict(fitted.estimator.state_dict())
    assert again.estimator.pass_count == 2


def test_the_maps_are_those_of_a_slow_twin(segmenter, cases):
    config = TestTimeAugmentationConfig(rotations=(10.0,), gains=(1.1,), shifts=(0.1,), gammas=())
    method, case = METHOD.build(config, segmenter()), Batch(cases(1, 3, rows=2)[0].image)
    forward = lambda x: torch.softmax(method.segmenter.module(x), dim=1)
    x, plain = case.image, forward(case.image)
    mean, deviation = (
        torch.stack([f(row) for row in x]).reshape(-1, 1, 1, 1)
        for f in (torch.mean, lambda r: r.std(unbiased=False))
    )
    passes = [
        plain,
        forward(x.flip(2)).flip(2),
        forward(x.flip(3)).flip(3),
        torch.where(in_view(x, 10.0), rotate(forward(rotate(x, 10.0)), -10.0), plain),
        forward(mean + 1.1 * (x - mean)),
        forward(x + 0.1 * deviation),
    ]
    stacked = torch.stack(passes).detach()
    uncertainty = method.predict(case).uncertainty
    assert method.estimator.pass_count == 6
    torch.testing.assert_close(uncertainty.probability, stacked.mean(0), rtol=1e-4, atol=1e-5)
    expected = entropy(stacked.mean(0)) - torch.stack([entropy(p) for p in stacked]).mean(0)
    torch.testing.assert_close(uncertainty.maps[Kind.EPISTEMIC], expected, rtol=1e-3, atol=1e-4)


def test_pooled_dice_is_the_mean_over_classes_that_occur():
    g = torch.Generator().manual_seed(0)
    chosen, label = (torch.randint(0, 3, (2, 40), generator=g) for _ in range(2))
    label[:, :10] = -1
    expected = np.nanmean(dice_per_class(chosen.numpy(), label.numpy(), 5))
    parts = overlap_sums(chosen[:1], label[:1], 5) + overlap_sums(chosen[1:], label[1:], 5)
    assert pooled_dice(parts) == pytest.approx(float(expected))
    assert pooled_dice(torch.zeros(2, 3)) == 1.0


def test_settings_survive_json():
    for config in (TestTimeAugmentationConfig(), TestTimeAugmentationConfig(flips=(0,), rotations=())):
        assert TestTimeAugmentationConfig(**json.loads(json.dumps(asdict(config)))) == config


def test_wrong_requests_are_refused(segmenter, cases):
    with pytest.raises(InputError, match="0 fitting cases"):
        METHOD.fit(ONLY_FLIPS, segmenter(), [], cases(1, 1), CONTEXT)
    with pytest.raises(InputError, match="no label"):
        METHOD.fit(ONLY_FLIPS, segmenter(), [Batch(cases(1, 1)[0].image)], [], CONTEXT)
    for name, value in (("gains", (0.0,)), ("gammas", (-1.0,)), ("rotations", (90.0,)), ("tolerance", -0.1)):
        with pytest.raises(ConfigError, match=name):
            TestTimeAugmentationConfig(**{name: value})
