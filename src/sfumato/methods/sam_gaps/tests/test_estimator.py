from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sfumato.errors import ConfigError, InputError, StorageError
from sfumato.interfaces import FitContext
from sfumato.methods.sam_gaps import METHOD, SamGaps, SamGapsConfig, fit_gaps, method_of
from sfumato.methods.sam_gaps.entropy import mixture_weights
from sfumato.segmenters.promptable.prompted_segmenter import PromptedSegmenter
from sfumato.segmenters.promptable.tiny import PhantomPromptable
from sfumato.storage import load_method, save_method
from sfumato.types import Batch, Kind, Link, Segmentation, SpatialPrompt

CONTEXT = FitContext(device="cpu")
SMALL = SamGapsConfig(
    ladder=("small", "large"), token_width=16, hidden=(32, 16), members=2, epochs=15, batch_size=64,
    learning_rate=1e-2, dropout=0.0, input_noise=0.05, average=0.9,
)  # fmt: skip


@pytest.fixture(scope="module")
def gaps(phantom_records) -> SamGaps:
    fitting, calibration = phantom_records(400, 1), phantom_records(200, 2)
    return fit_gaps(fitting, replace(calibration, sets=("other",) * len(calibration)), SMALL, CONTEXT)


def test_everything_is_in_range(gaps, phantom_records):
    inputs = phantom_records(100, 3).inputs
    found = gaps.judge(inputs)
    for value in (found.expected_iou, found.low, found.high, found.above, found.weights):
        assert value.shape == (200, 3)
        assert value.min() >= 0
        assert value.max() <= 1 + 1e-6
    assert (found.low <= found.expected_iou).all()
    assert (found.expected_iou <= found.high).all()
    torch.testing.assert_close(found.weights.sum(dim=1), torch.ones(200))
    assert found.task_gap.min() >= 0
    assert torch.equal(found.own, inputs.estimates.argmax(dim=1))


def test_the_chosen_mask_is_better_than_the_network_s_own_pick(gaps, phantom_records):
    records = phantom_records(300, 3)
    found = gaps.judge(records.inputs)
    assert records.of(found.chosen).mean() > records.of(found.own).mean() + 0.05
    best = found.expected_iou.gather(1, found.chosen[:, None])[:, 0]
    assert (best >= found.expected_iou.amax(dim=1) - 1e-6).all()


def test_expected_iou_is_calibrated_and_intervals_cover(gaps, phantom_records):
    records = phantom_records(400, 4)
    found = gaps.judge(records.inputs)
    assert float(found.expected_iou.mean()) == pytest.approx(float(records.iou.mean()), abs=0.03)
    assert float((found.expected_iou - records.iou).abs().mean()) < 0.12
    inside = ((found.low <= records.iou) & (records.iou <= found.high)).float()
    rows = torch.arange(len(records))
    assert float(inside.mean()) > 0.87
    assert float(inside[rows, found.chosen].mean()) > 0.87
    assert float((found.high - found.low).mean()) < 0.8


def test_gaps_speak_of_the_own_pick(gaps, phantom_records):
    inputs = phantom_records(50, 5).inputs
    outputs, found = gaps.outputs(inputs), gaps.judge(inputs)
    for row in range(len(inputs)):
        pick = int(inputs.estimates[row].argmax())
        assert float(found.prompt_gap[row]) == pytest.approx(float(outputs["prompt_gap"][row, pick]))
        assert float(found.task_gap[row]) == pytest.approx(max(0.0, float(outputs["task_gap"][row, pick])))


def test_many_rows_are_judged_in_pieces_and_give_the_same(gaps, phantom_records, monkeypatch):
    inputs = phantom_records(40, 6).inputs
    whole = gaps.judge(inputs)
    monkeypatch.setattr("sfumato.methods.sam_gaps.estimator.ROWS", 7)
    torch.testing.assert_close(gaps.judge(inputs).expected_iou, whole.expected_iou, atol=1e-6, rtol=0)


def test_weights_follow_the_spec_s_example():
    wanted = torch.tensor([[1 / 2, 1 / 3, 1 / 6]])
    torch.testing.assert_close(mixture_weights(torch.tensor([[0.9, 0.6, 0.3]])), wanted)


def test_a_group_on_both_sides_is_refused(phantom_records):
    with pytest.raises(InputError, match="in the fitting and in the calibration records"):
        fit_gaps(phantom_records(8, 1), phantom_records(8, 2), SMALL, CONTEXT)


def test_fresh_heads_promise_nothing(phantom_records):
    found = SamGaps(SMALL).judge(phantom_records(5, 1).inputs)
    assert (found.low == 0).all()
    assert (found.high == 1).all()


def clicked(count: int, seed: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    cases = []
    for _ in range(count):
        image, label = torch.zeros(1, 1, 40, 40), torch.zeros(1, 40, 40, dtype=torch.long)
        top, left = torch.randint(4, 16, (2,), generator=generator).tolist()
        side = int(torch.randint(6, 18, (1,), generator=generator))
        label[:, top : top + side, left : left + side] = 1
        image[0, 0][label[0] > 0] = 0.8
        image = (image + 0.1 * torch.rand(image.shape, generator=generator)).clamp(0, 1)
        cases.append(Batch(image, SpatialPrompt.of_points([[(top + 2, left + 2, 1)]]), label))
    return cases


def test_a_ladder_of_one_network_has_no_model_gap_and_another_number_of_names_is_refused():
    segmenter = PromptedSegmenter(PhantomPromptable(side=64), channels=1)
    alone = replace(METHOD.tiny, ladder=("network",), epochs=1)
    method = METHOD.fit(alone, segmenter, clicked(4, 1), clicked(3, 2), CONTEXT)
    assert Kind.EPISTEMIC not in method.spec.scores
    case = clicked(1, 3)[0]
    scores = method.predict(Batch(case.image, case.prompt)).uncertainty.scores
    assert set(scores) == set(method.spec.scores)
    with pytest.raises(ConfigError, match="names 2 networks, 1 were given"):
        METHOD.fit(METHOD.tiny, segmenter, clicked(2, 1), clicked(2, 2), CONTEXT)


def test_it_looks_at_nothing_but_promptable_answers():
    logits = torch.zeros(1, 1, 8, 8)
    with pytest.raises(InputError, match="expected the PromptedSegmentation"):
        SamGaps(SMALL).respond(Batch(logits), Segmentation(logits, Link.SIGMOID))


def test_a_saved_method_names_its_network_and_refuses_another(tmp_path):
    segmenter = PromptedSegmenter(PhantomPromptable(side=64), channels=1)
    method = method_of(SamGaps(METHOD.tiny), segmenter)
    save_method(tmp_path, method)
    assert not list(tmp_path.glob("segmenter/*.safetensors"))
    loaded = load_method(tmp_path)  # opened by its name
    case = clicked(1, 3)[0]
    one, other = (m.predict(Batch(case.image, case.prompt)).uncertainty for m in (method, loaded))
    assert {k: float(v) for k, v in one.scores.items()} == {k: float(v) for k, v in other.scores.items()}
    with pytest.raises(StorageError, match="fitted on another segmenter"):
        load_method(tmp_path, segmenter=PromptedSegmenter(PhantomPromptable(side=128), channels=1))
