import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.metrics import roc_auc_score

from sfumato.errors import InputError
from sfumato.methods.sample_difficulty.damage import DamageDetector, Lessons, cross_fitted

KINDS = ("blur", "noise")
DIRECTIONS = {"blur": np.array([-3.0, 0, 0]), "noise": np.array([0, 3.0, 0])}


def lessons(cases: int = 40, seed: int = 0, wide: int = 5) -> Lessons:
    """Originals about 0, copies of each moved in the direction of their kind; a second block of pure chance."""
    rng = np.random.default_rng(seed)
    originals = rng.normal(size=(cases, 3))
    copies = np.concatenate([originals + DIRECTIONS[kind] for kind in KINDS])
    chance = [rng.normal(size=(n, wide)) for n in (cases, len(copies))]
    kinds = tuple(kind for kind in KINDS for _ in range(cases))
    return Lessons([originals, chance[0]], [copies, chance[1]], kinds, np.tile(np.arange(cases), len(KINDS)))


def test_it_is_scikit_learn_s_kernel_ridge():
    taught = lessons()
    detector = DamageDetector.fit(taught)
    both = [np.concatenate(pair) for pair in zip(taught.originals, taught.copies, strict=True)]
    scaled = [(b - b.mean(axis=0)) / b.std(axis=0) / np.sqrt(b.shape[1]) for b in both]
    rows = np.concatenate(scaled, axis=1)
    damaged = np.r_[-np.ones(40), np.ones(80)]
    importance = np.r_[np.ones(40), np.full(80, 0.5)]
    rival = KernelRidge(alpha=0.1, kernel="rbf", gamma=detector.sharpness)
    rival.fit(rows, damaged - np.average(damaged, weights=importance), sample_weight=importance)
    assert np.allclose(
        detector(taught.originals)[0], rival.predict(rows[:40]) + detector.offsets[0], atol=1e-8
    )


def test_copies_are_told_from_originals_and_their_kind_is_named():
    detector = DamageDetector.fit(lessons())
    new = lessons(30, seed=1)
    clean, _ = detector(new.originals)
    damaged, kinds = detector(new.copies)
    assert roc_auc_score(np.r_[np.zeros(30), np.ones(60)], np.r_[clean, damaged]) > 0.9
    assert np.mean([a == b for a, b in zip(kinds, new.kinds, strict=True)]) > 0.9


def test_no_case_is_judged_by_what_it_taught():
    taught = lessons(10)
    scores, _ = cross_fitted(taught, folds=5)
    changed = lessons(10)
    changed.copies[0][changed.owners == 3] += 50.0
    again, _ = cross_fitted(changed, folds=5)
    # Case 3 and case 8 share a fold: neither sees the copies of case 3. The others do.
    same = np.isclose(scores, again, atol=1e-12)
    assert same.tolist() == [i in (3, 8) for i in range(10)]


def test_cross_fitting_is_fitting_on_the_others_written_out():
    taught = lessons(6)
    scores, kinds = cross_fitted(taught, folds=6)
    for case in range(6):
        others = np.array([i for i in range(6) if i != case])
        keep = taught.owners != case
        place = np.array([list(others).index(owner) for owner in taught.owners[keep]])
        left = Lessons(
            [b[others] for b in taught.originals],
            [b[keep] for b in taught.copies],
            tuple(k for k, s in zip(taught.kinds, keep, strict=True) if s),
            place,
        )
        score, kind = DamageDetector.fit(left)([b[case : case + 1] for b in taught.originals])
        assert score[0] == pytest.approx(scores[case], abs=1e-12)
        assert kind[0] == kinds[case]


def test_a_case_far_away_from_all_lessons_gets_the_offset():
    detector = DamageDetector.fit(lessons())
    score, _ = detector([np.full((1, 3), 1e9), np.full((1, 5), 1e9)])
    assert score[0] == pytest.approx(detector.offsets[0], abs=1e-3)


def test_too_little_to_learn_from_is_our_error():
    with pytest.raises(InputError, match="some originals"):
        Lessons([np.zeros((0, 3))], [np.zeros((1, 3))], ("blur",), np.zeros(1, int))
    with pytest.raises(InputError, match="at least 2"):
        cross_fitted(Lessons([np.zeros((1, 3))], [np.ones((1, 3))], ("blur",), np.zeros(1, int)))
