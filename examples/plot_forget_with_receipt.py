"""
Forget 1000 people in a second, with a receipt
==============================================

A model was trained on fifty thousand people. A thousand of them ask to be forgotten. Retraining would take a
while for each; here each is forgotten in about a millisecond, with a receipt that says what is proved, and a
log that shows it.
"""

# %%
# A model with a log
# ------------------
# Half the certificate is decided before the data are seen: how much noise, and what it is to prove
# (epsilon, delta). ``log_path`` and ``state_path`` make every request durable; with them the time is that of
# the disk, so the first thousand go without.
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mlpapers.unlearning import DeletionLog, DVWUClassifier, recover, replay

rng = np.random.default_rng(0)
X = rng.normal(size=(50_000, 30))
direction = rng.normal(size=30)
y = (X @ direction + 2.0 * rng.logistic(size=len(X)) > 0).astype(int)
X /= np.linalg.norm(X, axis=1).max()

model = DVWUClassifier(alpha=1.0, noise_scale=1.0, epsilon=1.0, delta=1e-5, random_state=0)
started = time.perf_counter()
model.fit(X, y)
training_seconds = time.perf_counter() - started
print(f"training: {training_seconds:.2f} s")

# %%
# What will it cost?
# ------------------
# ``plan`` predicts it before anything is deleted: each request uses up a little of the budget that the noise
# pays for, and when it is gone the model returns to the exact optimum.
plan = model.plan(1000)
print(plan.iloc[[0, 9, 99, 999]].to_string(index=False))

# %%
# A thousand requests
# -------------------
people = rng.permutation(len(X))[:1000]
started = time.perf_counter()
receipts = [model.unlearn([person]) for person in people]
seconds = time.perf_counter() - started
actions = pd.Series([receipt.action for receipt in receipts]).value_counts()
print(f"1000 requests: {seconds:.2f} s, {1000 * training_seconds / seconds:.0f} times faster than retraining")
print(actions.to_string())
print(receipts[-1])

# %%
# The saw: the bound on what is left over grows with every request, and never exceeds its budget.
bounds = [receipt.residual_bound for receipt in receipts]
fig, ax = plt.subplots()
ax.plot(np.arange(1, 1001), bounds, label="happened")
ax.plot(plan["deletions"], plan["residual_bound"], "--", linewidth=1, label="planned")
ax.axhline(model.residual_budget_, color="0.5", label="budget")
ax.set(xlabel="people forgotten", ylabel="bound on the gradient that is left")
ax.legend()
plt.show()

# %%
# Is it true? The exact gradient, from a pass over the data, and the distance to a model that never saw them:
print(f"exact {model.exact_residual():.2e}, bound {model.residual_bound_:.2e}")
print(f"largest difference to retraining: {np.abs(model.coef_ - model.retrain().coef_).max():.1e}")
print(model.certificate_)

# %%
# The paper trail
# ---------------
# A smaller model, with log and state file. The log has row numbers and fingerprints, never contents.
folder = Path(tempfile.mkdtemp())
logged = DVWUClassifier(
    noise_scale=1.0, log_path=folder / "log.jsonl", state_path=folder / "state", random_state=0
)
logged.fit(X[:2000], y[:2000])
(folder / "at_fit").write_bytes((folder / "state").read_bytes())
for letter, rows in {"letter 1": [3], "letter 2": [10, 11], "letter 3": np.arange(500, 520)}.items():
    logged.unlearn(rows, request_id=letter)
log = DeletionLog(folder / "log.jsonl")
records = pd.DataFrame(log.records())
print(
    records[["seq", "event", "request_id", "action", "hash"]]
    .assign(hash=records["hash"].str[:12])
    .to_string()
)

# %%
# Row 10 is gone, from the state file too; the log is whole; and replaying it from the state at training gives
# the same model, to the last bit.
print("row 10 in the state file:", X[10].tobytes() in (folder / "state").read_bytes())
print("log:", log.verify())
again = replay(DVWUClassifier.load(folder / "at_fit"), log)
print("replayed to the same bits:", np.array_equal(again.coef_, logged.coef_))

# %%
# A power cut
# -----------
# A request was written to the log, and then the machine stopped. After the restart ``recover`` finishes it.
log.append("request", request_id="letter 4", indices=[77])
after_restart = recover(DVWUClassifier.load(folder / "state"), log)
print("row 77 forgotten:", 77 in after_restart.forget_indices_, "- pending:", log.pending())

# %%
# Somebody edits the log. It shows.
content = log.path.read_bytes()
log.path.write_bytes(content.replace(b'"indices":[10,11]', b'"indices":[10,12]'))
print(log.verify())
log.path.write_bytes(content)

# %%
# What may leave the house is ``release()``: a plain scikit-learn model with the published numbers, and
# nothing else. State file, seed and receipts stay inside.
print(logged.release())
