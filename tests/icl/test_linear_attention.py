"""Attention modules against brute force matrices, polynomials and the exact losses."""

import numpy as np
import pytest
import torch

from mlpapers.icl import (
    LinearAttention,
    MultilayerLinearAttention,
    PolynomialAttention,
    TaskMixture,
    TaskPromptLinearAttention,
    evaluate_attention_polynomial,
    one_layer_attention_loss,
    optimal_loss,
    sample_gmm_prompts,
)


def brute_attention(Z, Wq, Wk, Wv, n, softmax=False):
    """(Z Wq)(Z Wk)' M Z Wv with the whole T x T matrix."""
    scores = Z @ Wq @ (Z @ Wk).transpose(0, 2, 1)
    M = np.diag((np.arange(Z.shape[1]) < n).astype(float))
    if softmax:
        weights = np.where(np.diag(M) > 0, np.exp(scores), 0.0)
        scores = weights / weights.sum(axis=2, keepdims=True)
    return scores @ M @ Z @ Wv


@pytest.mark.parametrize("softmax", [False, True])
def test_one_layer_is_the_matrix_form(softmax):
    torch.manual_seed(0)
    layer = LinearAttention(4, softmax=softmax, normalize=False).double()
    Z = torch.randn(3, 7, 4, dtype=torch.float64)
    weights = [getattr(layer, name).detach().numpy() for name in ("Wq", "Wk", "Wv")]
    expected = brute_attention(Z.numpy(), *weights, n=6, softmax=softmax)
    with torch.no_grad():
        assert np.abs(layer(Z, 6).numpy() - expected).max() < 1e-12
    if not softmax:
        scaled = LinearAttention(4).double()
        scaled.load_state_dict(layer.state_dict())
        with torch.no_grad():
            assert np.abs(scaled(Z, 6).numpy() - expected / 6).max() < 1e-12


def test_biases_shift_queries_keys_and_values():
    torch.manual_seed(0)
    layer = LinearAttention(3, bias=True, normalize=False).double()
    with torch.no_grad():
        layer.bias.copy_(torch.randn(3, 3))
        Z = torch.randn(1, 5, 3, dtype=torch.float64)
        q, k, v = (Z @ W + b for W, b in zip((layer.Wq, layer.Wk, layer.Wv), layer.bias))
        assert float((layer(Z, 5) - q @ k.transpose(1, 2) @ v).abs().max()) < 1e-12


def prompts_as_tensors(n, d, **options):
    prompts = sample_gmm_prompts(4, n, d, random_state=0, as_torch=True, **options)
    return prompts.X, prompts.y, prompts.x_query


@pytest.mark.parametrize("options", [{}, {"looped": True}, {"softmax": True}, {"output": "residual"}])
def test_stack_is_the_matrix_form(options):
    torch.manual_seed(1)
    model = MultilayerLinearAttention(3, 3, normalize=False, **options).double()
    X, y, x = prompts_as_tensors(6, 3)
    Z = torch.cat([torch.cat([X, y[..., None]], 2), torch.cat([x, torch.zeros(4, 1)], 1)[:, None]], 1).numpy()
    for number in range(3):
        layer = model.layers[0 if model.looped else number]
        weights = [getattr(layer, name).detach().numpy() for name in ("Wq", "Wk", "Wv")]
        attended = brute_attention(Z, *weights, n=6, softmax="softmax" in options)
        last = Z
        Z = Z + attended
    answer = (attended + last if "output" in options else attended)[:, 6] @ model.head.detach().numpy()
    with torch.no_grad():
        assert np.abs(model(X, y, x).numpy() - answer).max() < 1e-10 * max(1.0, np.abs(answer).max())


def test_order_of_the_context_does_not_matter():
    torch.manual_seed(2)
    X, y, x = prompts_as_tensors(8, 3)
    order = torch.randperm(8)
    for model in (MultilayerLinearAttention(3, 3).double(), PolynomialAttention(3)):
        with torch.no_grad():
            assert float((model(X, y, x) - model(X[:, order], y[:, order], x)).abs().max()) < 1e-10


@pytest.mark.parametrize("L", [1, 2, 3, 4, 5])
def test_weights_of_a_polynomial(L):
    rng = np.random.default_rng(L)
    a, b = rng.normal(size=(2, L - 1)) / 10
    model = MultilayerLinearAttention.from_polynomial(a, b, 0.8, 3)
    X, y, x = prompts_as_tensors(5, 3)
    values, vectors = np.linalg.eigh(np.einsum("bni,bnj->bij", X, X))
    A = evaluate_attention_polynomial(values, a, b, 0.8)
    Xy = np.einsum("bni,bn->bi", X, y)
    expected = np.einsum("bi,bij,bj,bkj,bk->b", x, vectors, A, vectors, Xy)
    with torch.no_grad():
        found = model(X, y, x).numpy()
        assert np.abs(found / expected - 1).max() < 1e-9
        flipped = model(X, -y, x).numpy()
    assert np.abs(flipped + found).max() <= 1e-12 * np.abs(found).max()


@pytest.mark.parametrize("options", [{}, {"looped": True}, {"label": False}, {"feature": False}])
def test_gains_alone(options):
    model = PolynomialAttention(3, **options)
    a, b, c = model.gains()
    assert len(a) == len(b) == 2
    assert model.label or b == [0.0, 0.0]
    assert model.feature or a == [0.0, 0.0]
    X, y, x = prompts_as_tensors(9, 4)
    values, vectors = np.linalg.eigh(np.einsum("bni,bnj->bij", X, X) / 9)
    A = evaluate_attention_polynomial(values, a, b, c)
    expected = np.einsum("bi,bij,bj,bkj,bk->b", x, vectors, A, vectors, np.einsum("bni,bn->bi", X, y) / 9)
    with torch.no_grad():
        assert np.abs(model(X, y, x).numpy() - expected).max() < 1e-12
        assert np.abs(model.polynomial(torch.from_numpy(values)).numpy() - A).max() < 1e-12
    trainable = {name for name, value in model.named_parameters() if value.requires_grad}
    assert trainable == {"c"} | ({"a"} if model.feature else set()) | ({"b"} if model.label else set())


def test_effective_weights_give_the_exact_loss():
    torch.manual_seed(3)
    n, p, sigma = 6, 0.5, 0.7
    model = MultilayerLinearAttention(3, normalize=False).double()
    prompts = sample_gmm_prompts(60_000, n, 3, p=p, sigma=sigma, random_state=1, as_torch=True)
    with torch.no_grad():
        errors = (model(prompts.X, prompts.y, prompts.x_query) - prompts.y_query).square().numpy()
        exact = float(one_layer_attention_loss(*model.effective_weights(), n=n, p=p, sigma=sigma))
    assert abs(errors.mean() - exact) < 5 * errors.std() / np.sqrt(len(errors))
    for options in ({"n_layers": 2}, {"softmax": True}, {"output": "residual"}):
        with pytest.raises(ValueError, match="effective_weights"):
            MultilayerLinearAttention(3, **options).effective_weights()


def test_unlabelled_rows_do_not_enter_the_best_layer():
    model = MultilayerLinearAttention.from_polynomial([], [], 0.1, 3)
    X, y, x = prompts_as_tensors(6, 3, n_labeled=3)
    other = X.clone()
    other[:, 3:] += 5.0
    with torch.no_grad():
        assert torch.equal(model(X, y, x), model(other, y, x))


@pytest.fixture(scope="module")
def mixture():
    rng = np.random.default_rng(0)
    roots = rng.normal(size=(2, 3, 3))
    return TaskMixture(
        rng.normal(size=(2, 3)), roots @ roots.transpose(0, 2, 1), weights=(0.3, 0.7), noise=0.3
    )


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("score_scale", [None, "paper"])
def test_loaded_optimum_has_the_closed_loss(mixture, normalize, score_scale):
    model = TaskPromptLinearAttention(
        3, 2, prompt=True, head=True, normalize=normalize, score_scale=score_scale
    ).double()
    prompts = mixture.sample(60_000, 5, random_state=0)
    parts = [torch.from_numpy(getattr(prompts, name)) for name in ("X", "y", "x_query", "task")]
    for strategy in ("plain", "prompt", "prompt+head"):
        model.load_optimum(mixture, 5, strategy)
        with torch.no_grad():
            errors = np.square(model(*parts).numpy() - prompts.y_query)
        assert abs(errors.mean() - optimal_loss(mixture, 5, strategy)) < 5 * errors.std() / np.sqrt(60_000)


def test_full_structure_is_the_matrix_form(mixture):
    torch.manual_seed(0)
    model = TaskPromptLinearAttention(
        3, 2, prompt=True, head=True, structure="full", normalize=False
    ).double()
    sample = mixture.sample(5, 4, random_state=0)
    parts = [torch.from_numpy(getattr(sample, name)) for name in ("X", "y", "x_query", "task")]
    Wq, Wk, Wv, P, H = (
        getattr(model, name).detach().numpy() for name in ("Wq", "Wk", "Wv", "prompts", "heads")
    )
    for b in range(5):
        k = sample.task[b]
        Zk = np.vstack([P[k], np.column_stack([sample.X[b], sample.y[b]])])
        query = np.append(sample.x_query[b], 0.0)
        expected = query @ Wq @ Wk.T @ Zk.T @ Zk @ Wv @ H[k]
        with torch.no_grad():
            assert abs(float(model(*parts)[b]) - expected) < 1e-12 * max(1.0, abs(expected))


def test_gradient_step():
    # With W = eta I and no prompt, f is one step of gradient descent from zero on the squared loss.
    rng = np.random.default_rng(0)
    model = TaskPromptLinearAttention(3, 1, prompt=False, normalize=False).double()
    X, y, x = rng.normal(size=(1, 6, 3)), rng.normal(size=(1, 6)), rng.normal(size=(1, 3))
    with torch.no_grad():
        model.W.copy_(0.1 * torch.eye(3, dtype=torch.float64))
        f = model(*map(torch.from_numpy, (X, y, x)), torch.zeros(1, dtype=torch.int64))
    step = 0.1 * X[0].T @ y[0]
    assert abs(float(f) - x[0] @ step) < 1e-12


def test_refusals(mixture):
    for name, call in {
        "dim": lambda: LinearAttention(0),
        "n_layers": lambda: MultilayerLinearAttention(3, 0),
        "n_features": lambda: MultilayerLinearAttention(0),
        "output": lambda: MultilayerLinearAttention(3, output="sum"),
        "init_scale": lambda: MultilayerLinearAttention(3, init_scale=0.0),
        "same length": lambda: MultilayerLinearAttention.from_polynomial([1.0], [], 1.0, 2),
        "structure": lambda: TaskPromptLinearAttention(3, 2, structure="other"),
        "score_scale": lambda: TaskPromptLinearAttention(3, 2, score_scale="own"),
        "structure='gd'": lambda: TaskPromptLinearAttention(3, 2, structure="full").load_optimum(
            mixture, 5, "plain"
        ),
        "mixture": lambda: TaskPromptLinearAttention(3, 4).load_optimum(mixture, 5, "plain"),
    }.items():
        with pytest.raises(ValueError, match=name):
            call()


@pytest.mark.parametrize("n_context", [-1, 0, 6])
def test_context_rows_are_rows_that_are_there(n_context):
    with pytest.raises(ValueError, match=rf"n_context must lie in \[1, 5\], the rows of Z; got {n_context}"):
        LinearAttention(4)(torch.zeros(2, 5, 4), n_context)


def test_prompts_of_another_shape_are_refused():
    X, y, x, task = torch.zeros(2, 4, 3), torch.zeros(2, 4), torch.zeros(2, 3), torch.zeros(2).long()
    stack, gains = MultilayerLinearAttention(3, 2), PolynomialAttention(2)
    prompted = TaskPromptLinearAttention(3, 2)
    wrong = {
        r"X must have shape \(B, n, 3\) with n >= 1": (X[:, :0], y[:, :0], x),
        "y must have shape": (X, y[:, :3], x),
        "x_query must have shape": (X, y, x[:, :2]),
    }
    for message, parts in wrong.items():
        with pytest.raises(ValueError, match=message):
            stack(*parts)
        with pytest.raises(ValueError, match=message):
            prompted(*parts, task)
        with pytest.raises(ValueError, match=message.replace("3", "d")):
            gains(*parts)
    with pytest.raises(ValueError, match=r"X must have shape \(B, n, 3\)"):
        stack(X[..., :2], y, x[:, :2])
    with pytest.raises(ValueError, match=r"task must have shape \(2,\), as X; got \(1,\)"):
        prompted(X, y, x, task[:1])
