"""The promises of every method, on every tiny segmenter (see docs/concepts.md, "The contract")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.errors import ConfigError, InputError, SfumatoError
from sfumato.imaging import Geometry, Image
from sfumato.interfaces import Estimator, Segmenter
from sfumato.metrics import selective
from sfumato.pipeline.case import PredictOptions, predict_image
from sfumato.segmenters import FrozenSegmenter, Preprocessing
from sfumato.storage import load_method, save_method
from sfumato.types import Batch, Kind, Prediction, Segmentation, SpatialPrompt, TextPrompt, Uncertainty

UNIT = {Kind.ERROR}
NEVER_NEGATIVE = {Kind.ERROR, Kind.PREDICTIVE, Kind.ALEATORIC, Kind.EPISTEMIC}
ORDERS_MISTAKES = {Kind.ERROR, Kind.PREDICTIVE, Kind.RANKING}
LEAST_AUROC = 0.7
"""Chance is 0.5; the entropy of the tiny segmenters reaches about 0.95 on these phantoms."""


def tensors_of(uncertainty: Uncertainty) -> dict[str, Tensor]:
    found = {f"map {k}": v for k, v in uncertainty.maps.items()}
    found |= {f"score {k}": v for k, v in uncertainty.scores.items()}
    for name in ("temperature", "probability"):
        value = getattr(uncertainty, name)
        found |= {} if value is None else {name: value}
    return found


def differences(one: Prediction, other: Prediction) -> Iterator[tuple[str, float]]:
    first, second = tensors_of(one.uncertainty), tensors_of(other.uncertainty)
    assert set(first) == set(second)
    for name, value in first.items():
        yield name, float((value - second[name]).abs().max())


def respond(fitted, batch: Batch) -> Segmentation:
    """The segmentation with the estimator's responses in place of its features, as windows hand it on."""
    segmentation = fitted.segmenter.segment(batch)
    return replace(segmentation, features=dict(fitted.method.estimator.respond(batch, segmentation)))


def row_of(batch: Batch, row: int) -> Batch:
    """One row of a batch and its prompt."""
    prompt = batch.prompt[row] if isinstance(batch.prompt, SpatialPrompt) else None
    if isinstance(batch.prompt, TextPrompt):
        prompt = TextPrompt(batch.prompt.sentences[row : row + 1])
    return Batch(batch.image[row : row + 1], prompt)


def unlabelled(case: Batch) -> Batch:
    """What is known of a case when its mask is wanted."""
    return replace(case, label=None)


def test_the_parts_are_what_they_claim(fitted):
    assert isinstance(fitted.method.segmenter, Segmenter)
    assert isinstance(fitted.method.estimator, Estimator)
    assert isinstance(fitted.method.estimator, torch.nn.Module)
    assert not fitted.method.estimator.training
    assert fitted.method.name == fitted.spec.name
    assert fitted.method.config == fitted.spec.tiny


def test_it_fills_what_its_spec_declares(fitted, batch):
    uncertainty = fitted.method.predict(batch).uncertainty
    assert set(uncertainty.maps) == set(fitted.method.spec.maps)
    assert set(uncertainty.scores) == set(fitted.method.spec.scores)
    grid = (batch.image.shape[0], *batch.image.shape[2:])
    classes = len(fitted.segmenter.spec.classes)
    for name, value in tensors_of(uncertainty).items():
        wanted = grid[:1] if name.startswith("score") else grid
        assert tuple(value.shape) == ((grid[0], classes, *grid[1:]) if name == "probability" else wanted), (
            name
        )


def test_values_are_finite_and_carry_no_gradient(fitted, batch):
    for name, value in tensors_of(fitted.method.predict(batch).uncertainty).items():
        assert torch.isfinite(value).all(), name
        assert not value.requires_grad, name


@pytest.mark.parametrize("factor", [0.0, 1e4])
def test_values_stay_finite_and_in_range_on_strange_images(fitted, batch, factor):
    strange = replace(batch, image=batch.image * factor)
    if fitted.spec.prompt is SpatialPrompt and factor > 1:
        with pytest.raises(InputError, match=r"\[0, 1\]"):  # these networks normalise, and name their range
            fitted.method.predict(strange)
        return
    prediction = fitted.method.predict(strange)
    for kind, value in prediction.uncertainty.maps.items():
        assert torch.isfinite(value).all(), kind
        if kind in NEVER_NEGATIVE:
            assert value.min() >= 0, kind
        if kind in UNIT:
            assert value.max() <= 1, kind
    for kind, value in prediction.uncertainty.scores.items():
        assert torch.isfinite(value).all(), kind


def test_more_uncertainty_goes_with_more_error(fitted):
    maps: dict[Kind, list[np.ndarray]] = {}
    errors = []
    for case in fitted.test:
        prediction = fitted.method.predict(unlabelled(case))
        errors.append((prediction.segmentation.labels() != case.label).numpy().ravel())
        for kind, value in prediction.uncertainty.maps.items():
            maps.setdefault(kind, []).append(value.numpy().ravel())
    wrong = np.concatenate(errors)
    ranking = {fitted.spec.ranks_by} | ORDERS_MISTAKES
    judged = {k: selective(np.concatenate(v), wrong).auroc for k, v in maps.items() if k in ranking}
    assert judged, "no map ranks mistakes"
    assert min(judged.values()) > LEAST_AUROC, judged


def test_the_same_input_gives_the_same_output(fitted, batch):
    torch.manual_seed(1)
    once = fitted.method.predict(batch)
    torch.manual_seed(2)
    again = fitted.method.predict(replace(batch, image=batch.image.clone()))
    assert dict(differences(once, again)) == dict.fromkeys(tensors_of(once.uncertainty), 0.0)


def test_a_batch_equals_its_rows(fitted, batch):
    together = fitted.method.predict(batch)
    rows = [fitted.method.predict(row_of(batch, i)) for i in range(len(batch.image))]
    for name, value in tensors_of(together.uncertainty).items():
        alone = torch.cat([tensors_of(row.uncertainty)[name] for row in rows])
        torch.testing.assert_close(
            value, alone, rtol=1e-4, atol=1e-5, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_a_label_in_the_batch_changes_nothing(fitted, batch):
    label = torch.ones((batch.image.shape[0], *batch.image.shape[2:]), dtype=torch.int64)
    without, with_label = fitted.method.predict(batch), fitted.method.predict(replace(batch, label=label))
    assert all(difference == 0 for _, difference in differences(without, with_label))


def test_the_labels_are_the_segmenter_s(fitted, batch):
    assert torch.equal(
        fitted.method.predict(batch).segmentation.labels(), fitted.segmenter.segment(batch).labels()
    )


def test_temperature_moves_no_label(fitted, batch):
    prediction = fitted.method.predict(batch)
    temperature = prediction.uncertainty.temperature
    if temperature is not None:
        assert temperature.min() > 0
    if prediction.uncertainty.probability is None:
        assert torch.equal(prediction.probability().argmax(dim=1), prediction.segmentation.labels())


def test_the_probability_is_one(fitted, batch):
    # A method's own probability may have another arg-max than the labels, but it is a probability.
    probability = fitted.method.predict(batch).probability()
    assert probability.min() >= 0
    torch.testing.assert_close(probability.sum(dim=1), torch.ones_like(probability[:, 0]), rtol=0, atol=1e-5)


def test_fitting_leaves_the_segmenter_untouched(fitted, batch):
    after = fitted.state()
    assert set(after) == set(fitted.before)
    assert all(torch.equal(after[k], v) for k, v in fitted.before.items())
    if isinstance(fitted.segmenter, FrozenSegmenter):
        assert not fitted.segmenter.module.training
        assert not any(p.requires_grad for p in fitted.segmenter.module.parameters())
    fresh = fitted.world.segmenter().segment(batch).logits
    assert torch.equal(fitted.method.predict(batch).segmentation.logits, fresh)


def test_fitting_again_gives_the_same_method(fitted):
    again = fitted.spec.fit(
        fitted.spec.tiny,
        fitted.world.segmenter(),
        fitted.fitting,
        fitted.calibration,
        fitted.context,
    )
    one, other = fitted.method.estimator.state_dict(), again.estimator.state_dict()
    assert set(one) == set(other)
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_saving_then_loading_is_exact(fitted, batch, tmp_path):
    save_method(tmp_path / "method", fitted.method, {"note": "kept"})
    # Promptable networks are files of the user's and stay where they are: here it is handed over.
    loaded = load_method(tmp_path / "method", segmenter=fitted.segmenter if fitted.spec.prompt else None)
    assert loaded.spec.scores == fitted.method.spec.scores
    assert loaded.spec.maps == fitted.method.spec.maps
    assert loaded.config == fitted.method.config
    assert all(d == 0 for _, d in differences(fitted.method.predict(batch), loaded.predict(batch)))


def test_wrong_channels_and_axes_are_our_errors(fitted, batch):
    channels = batch.image.shape[1]
    with pytest.raises(InputError, match=f"{channels + 1} image channels, expected {channels}"):
        fitted.method.predict(replace(batch, image=batch.image.repeat_interleave(channels + 1, dim=1)))
    with pytest.raises(InputError, match="expected"):
        fitted.method.predict(replace(batch, image=batch.image[..., 0]))
    if max(fitted.segmenter.spec.divisors) > 1:
        with pytest.raises(InputError, match="multiples"):
            fitted.method.predict(replace(batch, image=batch.image[..., 1:]))


def test_fitting_on_nothing_is_our_error(fitted):
    if not fitted.spec.fits:
        pytest.skip("this method needs no labelled cases")
    with pytest.raises(SfumatoError):
        fitted.spec.fit(fitted.spec.tiny, fitted.segmenter, [], [], fitted.context)


def test_responses_are_maps_on_the_grid_of_the_logits(fitted, batch):
    logits = fitted.segmenter.segment(batch).logits
    for name, value in respond(fitted, batch).features.items():
        assert value.shape[0] == logits.shape[0], name
        assert value.shape[2:] == logits.shape[2:], name
        assert value.dtype == torch.float32, name
        assert not value.requires_grad, name


def test_the_estimate_is_voxel_by_voxel(fitted, batch):
    # Windows are blended first and estimated once, a few planes at a time: that is right only if no voxel of an
    # estimate looks at another. Shuffled voxels must give the shuffled estimate.
    segmentation = respond(fitted, batch)
    grid = segmentation.logits.shape[2:]
    order = torch.randperm(grid.numel(), generator=torch.Generator().manual_seed(0))

    def shuffled(value: Tensor) -> Tensor:
        return value.flatten(-len(grid))[..., order].unflatten(-1, grid)

    estimate = fitted.method.estimator.estimate(batch, segmentation)
    moved = replace(
        segmentation,
        logits=shuffled(segmentation.logits),
        features={k: shuffled(v) for k, v in segmentation.features.items()},
    )
    again = fitted.method.estimator.estimate(replace(batch, image=shuffled(batch.image)), moved)
    for kind, value in estimate.maps.items():
        torch.testing.assert_close(again.maps[kind], shuffled(value), rtol=1e-5, atol=1e-6)
    for name in ("temperature", "probability"):
        value = getattr(estimate, name)
        if value is not None:
            torch.testing.assert_close(getattr(again, name), shuffled(value), rtol=1e-5, atol=1e-6)


def test_blended_responses_give_a_proper_estimate(fitted, batch):
    # Overlapping windows see the same voxel differently, and what is averaged need not be what any window gave.
    one = respond(fitted, batch)
    other = respond(fitted, replace(batch, image=batch.image.flip(0, -1)))
    mixed = replace(
        one,
        logits=0.3 * one.logits + 0.7 * other.logits,
        features={k: 0.3 * v + 0.7 * other.features[k] for k, v in one.features.items()},
    )
    estimate = fitted.method.estimator.estimate(batch, mixed)
    assert set(estimate.maps) == set(fitted.method.spec.maps)
    for kind, value in estimate.maps.items():
        assert torch.isfinite(value).all(), kind
        if kind in NEVER_NEGATIVE:
            assert value.min() >= 0, kind
        if kind in UNIT:
            assert value.max() <= 1, kind


def test_a_case_that_fits_one_window_gives_what_predict_gives(fitted):
    case = fitted.test[0]
    image = Image(case.image[0].numpy(), Geometry(tuple(case.image.shape[2:])), "phantom")
    if fitted.spec.prompt is SpatialPrompt:
        with pytest.raises(ConfigError, match="windows carry no prompt"):
            predict_image(fitted.method, image)
        return
    own = fitted.segmenter
    spec = replace(own.spec, preprocessing=Preprocessing(normalisation="none"))
    method = replace(fitted.method, segmenter=FrozenSegmenter(own.module, spec, own.condition))
    result = predict_image(method, image, options=PredictOptions(float32=True), prompt=case.prompt)
    prediction = fitted.method.predict(unlabelled(case))
    np.testing.assert_array_equal(result.segmentation, prediction.segmentation.labels()[0].numpy())
    np.testing.assert_allclose(result.probability, prediction.probability()[0].numpy(), atol=1e-5)
    for kind, value in prediction.uncertainty.maps.items():
        np.testing.assert_allclose(result.maps[kind], value[0].numpy(), rtol=1e-4, atol=1e-5)
    for kind, score in prediction.uncertainty.scores.items():
        assert result.scores[kind] == pytest.approx(float(score), rel=1e-4, abs=1e-5)


def test_a_missing_prompt_is_our_error(fitted, batch):
    if fitted.spec.prompt is not SpatialPrompt:
        pytest.skip("this method needs no prompt")
    for other in (Batch(batch.image), replace(batch, prompt=TextPrompt(("the bright disc",) * 3))):
        with pytest.raises(InputError, match="expected a SpatialPrompt"):
            fitted.method.predict(other)
    with pytest.raises(InputError, match="2 prompts for 3 images"):
        fitted.method.predict(replace(batch, prompt=batch.prompt[:2]))
    with pytest.raises(InputError, match="expected"):
        fitted.spec.fit(
            fitted.spec.tiny,
            fitted.segmenter,
            [replace(case, prompt=None) for case in fitted.fitting],
            fitted.calibration,
            fitted.context,
        )


def test_without_a_sentence_the_image_is_segmented_all_the_same(fitted, batch):
    if fitted.spec.prompt is not TextPrompt:
        pytest.skip("this method reads no sentence")
    without = fitted.method.predict(replace(batch, prompt=None))
    assert set(without.uncertainty.maps) == set(fitted.spec.maps)
    assert not torch.equal(without.segmentation.labels(), fitted.method.predict(batch).segmentation.labels())


def test_a_prompt_of_another_kind_is_our_error(fitted, batch):
    if fitted.spec.prompt is not TextPrompt:
        pytest.skip("this method reads no sentence")
    click = SpatialPrompt.of_points([[(3, 4, 1)]])
    cases = [replace(case, prompt=click) for case in fitted.fitting]
    with pytest.raises(InputError, match="expected a TextPrompt"):
        fitted.spec.fit(fitted.spec.tiny, fitted.segmenter, cases, fitted.calibration, fitted.context)


def test_the_prompt_matters(fitted, batch):
    if not fitted.spec.prompt:
        pytest.skip("this method needs no prompt")
    if fitted.spec.prompt is TextPrompt:
        sides = ["left" if "right" in sentence else "right" for sentence in batch.prompt.sentences]
        other = TextPrompt(tuple(f"the disc on the {side}" for side in sides))
    else:
        other = SpatialPrompt(torch.ones(3, 1, 2), batch.prompt.signs)
    elsewhere = replace(batch, prompt=other)
    here, there = fitted.method.predict(batch), fitted.method.predict(elsewhere)
    assert not torch.equal(here.segmentation.labels(), there.segmentation.labels())
    moved = dict(differences(here, there))
    assert all(moved[f"map {kind}"] > 0 for kind in fitted.spec.maps), moved
    alone = set(fitted.spec.scores) - set(fitted.spec.maps) or set(fitted.spec.scores)
    assert any(moved[f"score {kind}"] > 0 for kind in alone), moved


def test_a_segmenter_of_the_other_kind_is_our_error(fitted, tiny_segmenter):
    if not fitted.spec.prompt:
        pytest.skip("this method runs on any network")
    wanted = "reads sentences" if fitted.spec.prompt is TextPrompt else "expected a PromptedSegmenter"
    with pytest.raises(InputError, match=wanted):
        fitted.spec.fit(
            fitted.spec.tiny, tiny_segmenter("sigmoid_2d"), fitted.fitting, fitted.calibration, fitted.context
        )
