import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import percentileofscore

from sfumato.errors import InputError
from sfumato.methods.sample_difficulty.combined import IMAGE_GROUPS, LABEL_GROUPS, combine, ranks

NAMES = [name for group in (*IMAGE_GROUPS, *LABEL_GROUPS) for name in group]


def random_columns(cases: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(size=cases) for name in NAMES}


def test_ranks_are_scipy_s_mean_percentiles():
    values, reference = np.round(np.random.default_rng(0).normal(size=(2, 60)), 1)
    wanted = [percentileofscore(reference, v, kind="mean") / 100 for v in values]
    assert np.allclose(ranks(values, reference), wanted)


@given(st.integers(0, 2**31), st.sampled_from(NAMES))
def test_more_doubt_in_one_score_never_lowers_a_combined_one(seed, name):
    columns, reference = random_columns(8, seed), random_columns(20, seed + 1)
    before = combine(columns, reference)
    after = combine(columns | {name: columns[name] + 0.7}, reference)
    assert all((after[part] >= before[part]).all() for part in before)


def test_only_the_order_of_a_score_counts():
    columns, reference = random_columns(8), random_columns(20, seed=1)
    squeezed = [{name: np.tanh(v) for name, v in table.items()} for table in (columns, reference)]
    one, other = combine(columns, reference), combine(*squeezed)
    assert all(np.allclose(one[part], other[part]) for part in one)


def test_it_is_the_highest_group_mean_case_by_case():
    columns, reference = random_columns(6), random_columns(15, seed=1)
    columns["softmin"][2] = np.nan
    columns["surprise"][3] = columns["softmin"][3] = np.nan
    found = combine(columns, reference)
    for case in range(6):
        rank = {n: ranks(columns[n], reference[n])[case] for n in NAMES}
        groups = {"image": IMAGE_GROUPS, "label": LABEL_GROUPS}
        parts = {}
        for part, members in groups.items():
            means = [
                np.nanmean([rank[n] for n in g]) for g in members if np.isfinite([rank[n] for n in g]).any()
            ]
            parts[part] = max(means, default=np.nan)
            assert found[part][case] == pytest.approx(parts[part], nan_ok=True)
        assert found["difficulty"][case] == pytest.approx(np.nanmax(list(parts.values())))
    assert np.isnan(found["label"][3])


def test_a_case_does_not_depend_on_the_cases_beside_it():
    columns, reference = random_columns(8), random_columns(20, seed=1)
    alone = combine({name: v[4:5] for name, v in columns.items()}, reference)
    assert all(alone[part][0] == combine(columns, reference)[part][4] for part in alone)


def test_what_is_undefined_everywhere_stays_undefined():
    found = combine(
        {"damage": np.array([np.nan]), "surprise": np.array([1.0])},
        {"damage": np.ones(3), "surprise": np.zeros(3)},
    )
    assert np.isnan(found["image"][0])
    assert found["difficulty"].tolist() == [1.0]
    with pytest.raises(InputError, match="expected some of"):
        combine({"auv": np.zeros(2)}, {"auv": np.zeros(2)})
