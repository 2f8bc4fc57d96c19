"""
Convert an LLM to SSA in one line
=================================

A trained language model gets a temperature for every query and every value. At first nothing changes, not a
bit; then the temperatures are trained alone, and kept in a file of a few kilobytes.
"""

# %%
# A model
# -------
# Any Hugging Face model of the families Llama, Mistral, Qwen2, Qwen3, GPT-2, GPT-NeoX or Phi-3. Here a tiny
# Llama, trained for a moment on the Python documentation by the byte, so that the page builds in seconds;
# :func:`~mlpapers.attention.load_smollm2` loads a real one.
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mlpapers.attention import (
    attention_statistics,
    convert_to_ssa,
    finetune,
    load_ssa,
    perplexity,
    plot_temperatures,
    revert_ssa,
    save_ssa,
)
from mlpapers.datasets import load_text

text = load_text("python-topics").text.encode("ascii", "ignore")
tokens = torch.tensor(list(text))
train, held_out = tokens[:300_000], tokens[-4_000:]

torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=128,
    hidden_size=64,
    intermediate_size=128,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    pad_token_id=0,
    bos_token_id=1,
    eos_token_id=2,
)
model = LlamaForCausalLM(config)
finetune(model, train, trainable="all", n_steps=250, batch_size=8, seq_len=64, lr=4e-3, random_state=0)
print(f"perplexity per byte: {perplexity(model, held_out, seq_len=64):.3f}")

# %%
# The line
# --------
ids = held_out[None, :64]
before = model(ids).logits
result = convert_to_ssa(model, max_fraction=0.01)
print(result)
print("logits equal to the last bit:", torch.equal(model(ids).logits, before))

# %%
# Train the temperatures
# ----------------------
# The rest of the model stays as it is.
tuned = finetune(
    model,
    train,
    n_steps=60,
    batch_size=8,
    seq_len=64,
    ssa_lr=1e-2,
    eval_ids=held_out,
    eval_every=20,
    random_state=1,
)
print(tuned.to_frame().round(4).to_string(index=False))

# %%
# What they learned, on a line of the held-out text: red is spikier than plain attention, blue flatter.
stats = attention_statistics(model, ids[:, :48])
fig, ax = plt.subplots(figsize=(9, 3))
plot_temperatures([chr(byte) for byte in ids[0, :48].tolist()], stats.tau_q.reshape(-1, 48), ax)
ax.set_ylabel("layer and head")
plt.show()

# %%
# Keep them, and go back
# ----------------------
path = save_ssa(model, Path(tempfile.mkdtemp()) / "temperatures.safetensors")
print(f"{path.stat().st_size} bytes")
revert_ssa(model)
print("the model of before:", torch.equal(model(ids).logits, before))
load_ssa(model, path)
print(f"and with temperatures again: {perplexity(model, held_out, seq_len=64):.3f}")
