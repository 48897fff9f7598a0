from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.errors import InputError, UnknownNameError
from sfumato.heads.temperature import fit_temperature
from sfumato.interfaces import FitContext
from sfumato.measures.entropy import entropy
from sfumato.methods.temperature_scaling import METHOD, TemperatureScalingConfig
from sfumato.types import Batch, Kind

CONTEXT = FitContext(device="cpu")
VECTOR = TemperatureScalingConfig(kind="vector")


def likelihood(method, cases) -> float:
    total, count = 0.0, 0
    for case in cases:
        p = method.predict(Batch(case.image)).probability()
        total -= float(p.gather(1, case.label[:, None]).clamp_min(1e-12).log().sum())
        count += case.label.numel()
    return total / count


def test_lbfgs_and_a_grid_find_the_same_temperature():
    g = torch.Generator().manual_seed(0)
    z = 4 * torch.randn(3, 5000, generator=g)
    y = torch.multinomial(torch.softmax(z / 1.7, 0).T, 1, generator=g)[:, 0]
    found = fit_temperature([z[:, :2000], z[:, 2000:]], [y[:2000], y[2000:]])

    def mean_loss(t):
        return -torch.log_softmax(z.double() / t, 0).gather(0, y[None]).mean()

    parameter = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([parameter], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = mean_loss(parameter)
        loss.backward()
        return loss

    optimiser.step(closure)
    assert found == pytest.approx(float(parameter.detach()), rel=1e-4)
    grid = torch.linspace(1.2, 2.4, 241)
    best = grid[torch.stack([mean_loss(t) for t in grid]).argmin()]
    assert found == pytest.approx(float(best), abs=0.006)


@pytest.mark.parametrize("config", [TemperatureScalingConfig(), VECTOR], ids=["global", "vector"])
@pytest.mark.parametrize(
    "shape", [{"classes": 3}, {"classes": 2, "sigmoid": True}], ids=["softmax", "sigmoid"]
)
def test_the_likelihood_of_the_fitted_cases_improves(config, shape, segmenter, cases):
    classes = {"classes": shape["classes"]}
    fitting, calibration = cases(3, 1, **classes), cases(2, 2, **classes)
    fitted = METHOD.fit(config, segmenter(**shape), fitting, calibration, CONTEXT)
    before = METHOD.build(config, segmenter(**shape))
    seen = [*fitting, *calibration]  # both are fitted on
    assert likelihood(fitted, seen) < likelihood(before, seen)
    if config.kind == "vector":
        plain = METHOD.fit(TemperatureScalingConfig(), segmenter(**shape), fitting, calibration, CONTEXT)
        assert likelihood(fitted, seen) <= likelihood(plain, seen) + 1e-6


def test_global_maps_are_the_tempered_softmax(segmenter, cases):
    method = METHOD.fit(TemperatureScalingConfig(), segmenter(), cases(2, 1), cases(2, 2), CONTEXT)
    prediction = method.predict(Batch(cases(1, 3)[0].image))
    temperature = float(method.estimator.temperature)
    assert temperature > 1.5  # the gullible segmenter is far too sure
    p = torch.softmax(prediction.segmentation.logits / temperature, dim=1)
    torch.testing.assert_close(prediction.uncertainty.maps[Kind.PREDICTIVE], entropy(p))
    torch.testing.assert_close(prediction.uncertainty.maps[Kind.ERROR], 1 - p.amax(dim=1))
    torch.testing.assert_close(prediction.uncertainty.temperature, torch.full_like(p[:, 0], temperature))
    assert prediction.uncertainty.probability is None


def test_vector_scaling_doubts_the_segmenter_s_label(segmenter, cases):
    method = METHOD.fit(VECTOR, segmenter(), cases(2, 1), cases(2, 2), CONTEXT)
    method.estimator.bias.copy_(torch.tensor([0.0, 0.0, 50.0]))  # now class 2 is always the likeliest
    prediction = method.predict(Batch(cases(1, 3)[0].image))
    labels, p = prediction.segmentation.labels(), prediction.probability()
    assert (p.argmax(dim=1) == 2).float().mean() > (labels == 2).float().mean()
    torch.testing.assert_close(
        prediction.uncertainty.maps[Kind.ERROR], 1 - p.gather(1, labels[:, None])[:, 0], rtol=0, atol=1e-6
    )
    scale = method.estimator.scale.reshape(1, -1, 1, 1)
    slow = torch.softmax(
        scale * prediction.segmentation.logits + torch.tensor([0.0, 0.0, 50.0]).reshape(1, 3, 1, 1), 1
    )
    torch.testing.assert_close(p, slow)


def test_unlabelled_voxels_do_not_count(segmenter, cases):
    case = cases(1, 1)[0]
    hidden = case.label.clone()
    hidden[:, :12] = -1
    cut = Batch(case.image[:, :, 12:], label=case.label[:, 12:])
    one, other = (
        METHOD.fit(TemperatureScalingConfig(), segmenter(), [c], [], CONTEXT)
        for c in (replace(case, label=hidden), cut)
    )
    torch.testing.assert_close(one.estimator.temperature, other.estimator.temperature)


def test_wrong_requests_are_refused(segmenter):
    with pytest.raises(UnknownNameError, match="vector"):
        TemperatureScalingConfig(kind="matrix")
    with pytest.raises(InputError, match="0 fitting and calibration cases"):
        METHOD.fit(TemperatureScalingConfig(), segmenter(), [], [], CONTEXT)
