import math

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import cosine_similarity

from sfumato.errors import InputError
from sfumato.methods.sample_difficulty.maps import (
    Prototypes,
    energy_maps,
    logit_maps,
    present_in,
    principal_maps,
)

NAMES = ("liver", "tumour")


def drawn(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labelled(seed: int = 0, slices: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Features on a 4 x 5 grid and a label of 12 x 10 pixels: cells of 3 x 2."""
    generator = torch.Generator().manual_seed(seed)
    return drawn((slices, 6, 4, 5), seed), torch.randint(0, 3, (slices, 12, 10), generator=generator)


def prototypes_by_loops(features: np.ndarray, label: np.ndarray, classes: int) -> np.ndarray:
    sums, weights = np.zeros((classes, features.shape[1])), np.zeros(classes)
    for s, _, r, c in np.ndindex(*label.shape[:1], 1, *label.shape[1:]):
        value = label[s, r, c]
        if value > 0:
            sums[value - 1] += features[s, :, r // 3, c // 2] / 6
            weights[value - 1] += 1 / 6
    return sums / weights[:, None]


def test_energy_is_the_root_of_the_sum_of_squares():
    features = drawn((2, 5, 3, 4))
    maps, present = energy_maps(features)
    for s, r, c in np.ndindex(2, 3, 4):
        expected = math.sqrt(sum(float(v) ** 2 for v in features[s, :, r, c]))
        assert float(maps[0, s, r, c]) == pytest.approx(expected, rel=1e-6)
    assert present.shape == (1, 2)
    assert present.all()


def test_the_principal_map_is_that_of_scikit_learn():
    features = drawn((3, 5, 4, 6)) * torch.arange(1, 6).reshape(1, 5, 1, 1)
    maps, present = principal_maps(features)
    pca = PCA(1, svd_solver="full").fit(tokens := features.movedim(1, -1).reshape(-1, 5).double().numpy())
    expected = pca.transform(tokens)[:, 0].reshape(3, 4, 6)
    expected *= np.sign(pca.components_[0][np.abs(pca.components_[0]).argmax()])
    assert np.allclose(maps[0].numpy(), expected, atol=1e-5)
    assert present.all()


def test_features_without_contrast_have_a_principal_map_of_zeros():
    maps, _ = principal_maps(torch.full((2, 3, 4, 4), 0.7))
    assert torch.allclose(maps, torch.zeros(1, 2, 4, 4), atol=1e-12)


def test_logits_pass_through_without_background():
    logits = drawn((3, 4, 5, 6))
    maps, present = logit_maps(logits)
    for c in range(3):
        assert torch.equal(maps[c], logits[:, c + 1])
    assert present.shape == (3, 3)
    assert torch.equal(logit_maps(logits[:, :1])[0][0], logits[:, 0])


def test_presence_follows_the_labels_slices():
    label = torch.zeros(4, 5, 5, dtype=torch.long)
    label[1, 2, 2], label[3, 0, 4] = 2, 1
    assert present_in(label, 3).tolist() == [
        [False, False, False, True],
        [False, True, False, False],
        [False, False, False, False],
    ]


def test_prototypes_are_the_mean_over_a_classes_pixels():
    features, label = labelled()
    fitted = Prototypes.of(features, label, NAMES)
    expected = prototypes_by_loops(features.double().numpy(), label.numpy(), 2)
    assert np.allclose(fitted.sums / fitted.weights[:, None], expected, atol=1e-12)
    assert float(fitted.weights.sum()) == pytest.approx(float((label > 0).sum()) / 6)


def test_prototype_maps_are_the_cosine_of_scikit_learn():
    features, label = labelled()
    fitted = Prototypes.of(features, label, NAMES)
    maps, present = fitted.maps(features)
    tokens = features.movedim(1, -1).reshape(-1, 6).double().numpy()
    expected = cosine_similarity(fitted.sums.numpy(), tokens).reshape(2, 3, 4, 5)
    assert np.allclose(maps.numpy(), expected, atol=1e-6)
    assert present.shape == (2, 3)
    assert present.all()


def test_prototypes_of_cases_add_up_in_any_order():
    cases = [labelled(seed, slices=seed + 1) for seed in range(3)]
    together = Prototypes.fit(cases, NAMES)
    backwards = Prototypes.fit(cases[::-1], NAMES)
    stacked = Prototypes.of(*(torch.cat(parts) for parts in zip(*cases, strict=True)), NAMES)
    for other in (backwards, stacked):
        assert torch.allclose(together.sums, other.sums, atol=1e-12)
        assert torch.allclose(together.weights, other.weights, atol=1e-12)


def test_pixels_of_unknown_class_do_not_count():
    features, label = labelled()
    label[0] = -1
    fitted = Prototypes.of(features, label, NAMES)
    rest = Prototypes.of(features[1:], label[1:], NAMES)
    assert torch.allclose(fitted.sums, rest.sums, atol=1e-12)
    assert torch.allclose(fitted.weights, rest.weights, atol=1e-12)


def test_a_class_that_no_case_had_is_present_nowhere():
    features, label = labelled()
    maps, present = Prototypes.of(features, label.clamp(max=1), NAMES).maps(features)
    assert present.tolist() == [[True] * 3, [False] * 3]
    assert torch.equal(maps[1], torch.zeros_like(maps[1]))


def test_a_features_length_does_not_move_its_prototype_map():
    features, label = labelled()
    fitted = Prototypes.of(features, label, NAMES)
    assert torch.allclose(fitted.maps(7 * features)[0], fitted.maps(features)[0], atol=1e-6)


def test_a_case_is_the_stack_of_its_slices():
    features, label = labelled()
    fitted = Prototypes.of(features, label, NAMES)
    for make in (energy_maps, logit_maps, fitted.maps):
        whole = make(features)[0]
        parts = torch.cat([make(features[i : i + 1])[0] for i in range(3)], dim=1)
        assert torch.allclose(whole, parts, atol=1e-6)


def test_prototypes_come_back_from_plain_arrays():
    features, label = labelled()
    fitted = Prototypes.of(features, label, NAMES)
    again = Prototypes.from_arrays(fitted.to_arrays(), NAMES)
    assert torch.equal(again.maps(features)[0], fitted.maps(features)[0])


def test_what_does_not_fit_is_refused():
    features, label = labelled()
    fitted = Prototypes.of(features, label, NAMES)
    with pytest.raises(InputError, match="of width 4, expected 6"):
        fitted.maps(features[:, :4])
    with pytest.raises(InputError, match="3 slices of features"):
        Prototypes.of(features, label[:2], NAMES)
    with pytest.raises(InputError, match="at least one labelled case"):
        Prototypes.fit([], NAMES)
    with pytest.raises(InputError, match="do not add up"):
        _ = fitted + Prototypes.of(features[:, :4], label, NAMES)
    with pytest.raises(InputError, match="for 3 classes"):
        Prototypes.from_arrays(fitted.to_arrays(), (*NAMES, "vessel"))
