from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.errors import ConfigError, UnknownNameError
from sfumato.methods.perturbation_head import PerturbationHead, PerturbationHeadConfig
from sfumato.methods.perturbation_head.patterns import hadamard_patterns, make_patterns, reference_patterns

TABLE = """
+ + + + - - - -
+ + - - - - + +
+ - - - + + + -
+ - - + + - - +
+ - + + - - + -
+ - + - - + - +
+ - + - + - + -
- + - + - + - +
"""


def test_the_reference_table_is_the_float32_one():
    expected = [[1 if s == "+" else -1 for s in line.split()] for line in TABLE.split("\n") if line]
    assert reference_patterns(8).tolist() == expected


def test_the_reference_table_has_the_defects_that_were_measured():
    table = reference_patterns(8).double().numpy()
    np.testing.assert_allclose(table.mean(0), [0.75, -0.25, 0, 0, -0.25, -0.25, 0, 0])
    eigenvalues = np.linalg.eigvalsh(np.cov(table.T, bias=True))
    np.testing.assert_allclose(eigenvalues, [0, 0.147, 0.317, 0.660, 1, 1, 1.635, 2.491], atol=6e-4)


@pytest.mark.parametrize("probes", [2, 3, 5, 12])
def test_reference_patterns_of_other_sizes_are_signs_of_cosines(probes):
    table = reference_patterns(probes)
    for i in range(1, probes):
        for r in range(probes):
            cosine = np.cos(np.pi * i * (r + 0.5) / probes)
            if abs(cosine) > 1e-6:  # zeros are rounding noise in the paper's code
                assert table[i - 1, r] == np.sign(cosine)


@settings(deadline=None)
@given(st.integers(1, 40))
def test_hadamard_patterns_have_zero_mean_and_identity_covariance(probes):
    table = hadamard_patterns(probes).double()
    assert table.abs().eq(1).all()
    assert table.mean(0).eq(0).all()
    assert torch.equal(table.T @ table / len(table), torch.eye(probes, dtype=torch.double))
    rows = {tuple(row) for row in table.tolist()}
    assert {tuple(-s for s in row) for row in rows} == rows


@pytest.mark.parametrize("name", ["hadamard", "reference"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_no_precision_changes_the_table(name, dtype):
    config = PerturbationHeadConfig(patterns=name, width=4, hidden=4)
    head = PerturbationHead(config, {"a": 3}, classes=3, dims=2)
    assert torch.equal(head.to(dtype).patterns, make_patterns(name, 8))
    assert torch.equal(head.state_dict()["patterns"], make_patterns(name, 8))


def test_wrong_requests_are_refused():
    with pytest.raises(UnknownNameError, match="hadamard"):
        make_patterns("hadamar", 8)
    with pytest.raises(ConfigError, match="probes=0"):
        make_patterns("reference", 0)
