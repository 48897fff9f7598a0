from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from sfumato.errors import ConfigError, InputError, TapError, UnknownNameError
from sfumato.heads.crops import Crop
from sfumato.interfaces import FitContext
from sfumato.measures.entropy import entropy
from sfumato.methods.error_head import METHOD, ErrorHead, ErrorHeadConfig
from sfumato.methods.error_head import head as head_module
from sfumato.methods.error_head.fit import crop_loss
from sfumato.metrics import selective
from sfumato.types import Batch, Kind, Link, Segmentation

CONTEXT = FitContext(device="cpu")
SMALL = ErrorHeadConfig(width=8, hidden=8, epochs=12, batch_size=2, learning_rate=5e-3)


def random_head(dims=2, classes=3, **changes) -> ErrorHead:
    torch.manual_seed(0)
    head = ErrorHead(replace(SMALL, **changes), {"coarse": 5, "fine": 4}, classes, dims)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return head.eval()


def random_segmentation(dims=2, classes=3, link=Link.SOFTMAX, rows=2) -> Segmentation:
    g = torch.Generator().manual_seed(1)
    sides = (6, 8, 4)[:dims]
    features = {
        "coarse": torch.randn(rows, 5, *(n // 2 for n in sides), generator=g),
        "fine": torch.randn(rows, 4, *sides, generator=g),
    }
    return Segmentation(3 * torch.randn(rows, classes, *sides, generator=g), link, features)


def gelu(x: float) -> float:
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def slow_logit(head: ErrorHead, fused: torch.Tensor, z: list[float]) -> float:
    """One voxel, with lists."""
    top = max(z)
    weights = [math.exp(v - top) for v in z]
    p = [w / sum(weights) for w in weights]
    mean = sum(z) / len(z)
    doubt = math.log(sum(v for i, v in enumerate(p) if i != z.index(top)))
    x = [*fused.tolist(), *(v - mean for v in z), -sum(v * math.log(v) for v in p), doubt / 5]

    def layer(linear, values):
        rows = linear.weight.tolist()
        bias = linear.bias.tolist() if linear.bias is not None else [0.0] * len(rows)
        return [
            sum(a * b for a, b in zip(r, values, strict=True)) + c for r, c in zip(rows, bias, strict=True)
        ]

    hidden = [gelu(v) for v in layer(head.second, [gelu(v) for v in layer(head.first, x)])]
    return layer(head.last, hidden)[0] + layer(head.straight, x)[0]


@pytest.mark.parametrize(("dims", "link", "classes"), [(2, Link.SOFTMAX, 3), (3, Link.SIGMOID, 2)])
def test_the_logit_is_its_slow_twin(dims, link, classes):
    head = random_head(dims, classes)
    segmentation = random_segmentation(dims, 1 if link is Link.SIGMOID else classes, link)
    found = head.respond(Batch(torch.zeros(2, 1, *segmentation.logits.shape[2:])), segmentation)[
        "error_logit"
    ]
    fused = head.fusion([segmentation.features["coarse"], segmentation.features["fine"]]).detach()
    full = segmentation.full_logits()
    for place in ((0, *[0] * dims), (1, *[2] * dims), (0, *[3] * dims)):
        row, *voxel = place
        at = (row, slice(None), *voxel)
        assert float(found[(row, 0, *voxel)]) == pytest.approx(
            slow_logit(head, fused[at], full[at].tolist()), abs=1e-4
        )


def test_pieces_give_what_the_whole_gives(monkeypatch):
    head, segmentation = random_head(), random_segmentation()
    whole = head.logit(segmentation).detach()
    monkeypatch.setattr(head_module, "CHUNK", 7)
    with torch.no_grad():
        torch.testing.assert_close(head.logit(segmentation), whole)


def test_an_untrained_head_orders_as_the_softmax_does():
    head, segmentation = ErrorHead(SMALL, {"coarse": 5, "fine": 4}, 3, 2), random_segmentation()
    doubt = 1 - segmentation.probability().amax(dim=1)
    found = head.respond(Batch(torch.zeros(2, 1, 6, 8)), segmentation)["error_logit"][:, 0]
    torch.testing.assert_close(found, doubt.log(), rtol=1e-3, atol=1e-3)


def test_the_loss_is_the_mean_cross_entropy_of_the_labelled_voxels():
    head, segmentation = random_head(), random_segmentation(rows=1)
    label = torch.randint(-1, 3, (1, 6, 8), generator=torch.Generator().manual_seed(2))
    loss = float(crop_loss(head, [Crop(segmentation, label)] * 2, torch.device("cpu")).detach())
    terms = []
    columns = (head.logit(segmentation), label, segmentation.labels())
    for a, y, c in zip(*(v.flatten().tolist() for v in columns), strict=True):
        if y >= 0:
            p = 1 / (1 + math.exp(-a))
            terms.append(-math.log(p if c != y else 1 - p))
    assert loss == pytest.approx(sum(terms) / len(terms), abs=1e-5)


@pytest.mark.parametrize("fusion", ["light", "reference"])
def test_it_has_the_parameters_of_its_layers(fusion):
    head = ErrorHead(ErrorHeadConfig(fusion=fusion), {"a": 64, "b": 32}, classes=3, dims=3)
    inputs, wide = 32 + 3 + 2, 32 * 64 * 27 + 32 * 32 * 27 + 2 * 2 * 32
    layers = (inputs * 32 + 32) + (32 * 32 + 32) + (32 + 1) + inputs
    expected = 32 * (64 + 32) + layers + (2 * 32 if fusion == "light" else wide)
    assert sum(p.numel() for p in head.parameters()) == expected


@pytest.fixture(scope="module")
def fitted(segmenter, cases):
    return METHOD.fit(SMALL, segmenter(), cases(8, 1), cases(6, 2), CONTEXT)


def test_it_learns_to_rank_mistakes_that_entropy_cannot_see(fitted, cases):
    columns = {"entropy": [], Kind.RANKING: [], Kind.ERROR: [], "wrong": []}
    for case in cases(6, 3):
        prediction = fitted.predict(Batch(case.image))
        found = dict(prediction.uncertainty.maps)
        found["entropy"] = entropy(prediction.segmentation.probability())
        found["wrong"] = prediction.segmentation.labels() != case.label
        for name, value in found.items():
            columns[name].append(value.numpy().ravel())
    pooled = {k: np.concatenate(v) for k, v in columns.items()}
    auroc = {k: selective(pooled[k], pooled["wrong"]).auroc for k in ("entropy", Kind.RANKING, Kind.ERROR)}
    assert auroc["entropy"] < 0.7
    assert auroc[Kind.RANKING] > 0.9
    assert auroc[Kind.ERROR] == pytest.approx(auroc[Kind.RANKING], abs=5e-3)
    assert abs(pooled[Kind.ERROR].mean() - pooled["wrong"].mean()) < 0.03  # the mean chance is the error rate


def test_the_seed_decides_and_nothing_else_is_touched(segmenter, cases):
    config, frozen = replace(SMALL, epochs=1), segmenter()
    state = torch.random.get_rng_state()
    one, same, other = (
        METHOD.fit(config, frozen, cases(2, 1), cases(2, 2), replace(CONTEXT, seed=s)).estimator.state_dict()
        for s in (0, 0, 1)
    )
    assert all(torch.equal(v, same[k]) for k, v in one.items())
    assert not torch.equal(one["first.weight"], other["first.weight"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_settings_survive_json_and_tuples():
    config = ErrorHeadConfig(patch=(8, 8))
    assert ErrorHeadConfig(**json.loads(json.dumps(asdict(config)))) == config


def test_wrong_requests_are_refused(segmenter, cases):
    with pytest.raises(InputError, match="0 calibration cases"):
        METHOD.fit(SMALL, segmenter(), cases(1, 1), [], CONTEXT)
    with pytest.raises(UnknownNameError, match="reference"):
        ErrorHeadConfig(fusion="none")
    with pytest.raises(ConfigError, match="hidden=0"):
        ErrorHeadConfig(hidden=0)
    with pytest.raises(ConfigError, match="clip=0"):
        ErrorHeadConfig(clip=0)
    segmentation = random_segmentation()
    with pytest.raises(InputError, match="error_logit"):
        random_head().estimate(Batch(torch.zeros(2, 1, 6, 8)), segmentation)
    with pytest.raises(TapError, match="coarse"):
        random_head().logit(replace(segmentation, features={}))
