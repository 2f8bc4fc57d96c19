"""Temperatures against their formulas, written out number by number."""

import math

import pytest
import torch

from mlpapers.attention import TemperatureModule, position_temperature, token_temperature

KINDS = {
    "linear": lambda n, a: 1 + a * math.log(n),
    "sigmoid": lambda n, a: 1 + math.log(n) / (1 + math.exp(-a)),
    "gompertz": lambda n, a: 1 + math.exp(-math.exp(a)) * math.log(n),
    "ssmax": lambda n, a: a * math.log(n),
    "yarn": lambda _n, a: (1 + 0.1 * math.log(a)) ** 2,
    "none": lambda _n, _a: 1.0,
}


def gelu(z):
    return 0.5 * z * (1 + math.erf(z / math.sqrt(2)))


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestTokenTemperature:
    def test_formula(self):
        x, weight, bias = draw(2, 3, 4, 5), draw(3, 5, seed=1), draw(3, seed=2)
        tau = token_temperature(x, weight, bias)
        assert tau.shape == (2, 3, 4)
        for b, h, t in [(0, 0, 0), (1, 2, 3), (1, 1, 2)]:
            u = sum(w * gelu(z) for w, z in zip(weight[h].tolist(), x[b, h, t].tolist())) + float(bias[h])
            assert float(tau[b, h, t]) == pytest.approx(math.tanh(u), rel=1e-13)

    def test_float32_for_half_precision(self):
        assert token_temperature(draw(1, 2, 3, 4).half(), draw(2, 4).half()).dtype == torch.float32

    @pytest.mark.parametrize(
        ("arguments", "error", "match"),
        [
            (([1.0], draw(2, 4)), TypeError, "x must be a torch.Tensor; got list"),
            ((draw(2, 3, 4), draw(2, 4)), ValueError, "x must have 4 dimensions"),
            ((draw(1, 2, 3, 4), draw(3, 4)), ValueError, r"weight must have shape \(H, d\) = \(2, 4\)"),
            ((draw(1, 2, 3, 4).long(), draw(2, 4)), ValueError, "x must have a floating dtype"),
            ((draw(1, 2, 3, 4), draw(2, 4), draw(3)), ValueError, "bias must broadcast"),
        ],
    )
    def test_errors(self, arguments, error, match):
        with pytest.raises(error, match=match):
            token_temperature(*arguments)


class TestPositionTemperature:
    @pytest.mark.parametrize("kind", KINDS)
    def test_formula(self, kind):
        alpha = torch.tensor([0.3, 1.7])
        n = torch.tensor([[1, 2, 1000], [5, 1, 1_000_000]])
        tau = position_temperature(n, alpha, kind)
        assert tau.shape == (2, 2, 3)
        for b in range(2):
            for h in range(2):
                for t in range(3):
                    expected = KINDS[kind](int(n[b, t]), float(alpha[h]))
                    assert float(tau[b, h, t]) == pytest.approx(expected, rel=1e-6)

    def test_shapes(self):
        n = torch.arange(1, 6)
        assert position_temperature(n, 0.1).shape == (5,)
        assert position_temperature(n[None], 0.1).shape == (1, 5)
        assert position_temperature(n, torch.zeros(3)).shape == (3, 5)

    def test_the_logarithm_is_not_that_of_half_precision(self):
        # In bfloat16 n and n + 1 are the same number from 256 on.
        n = torch.tensor([1000, 1001])
        tau = position_temperature(n, 1.0)
        assert float(tau[1] - tau[0]) == pytest.approx(math.log(1001 / 1000), rel=1e-3)

    @pytest.mark.parametrize(
        ("arguments", "match"),
        [
            ((torch.tensor([0, 1]), 0.1), "n must be at least 1; got 0"),
            ((torch.tensor([1]), 0.1, "cubic"), "kind must be one of"),
            ((torch.tensor([1]), torch.zeros(2, 2)), "alpha must be a scalar"),
            ((torch.tensor([1.0, math.nan]), 0.1), "n must be at least 1; got nan"),
            ((torch.tensor([1]), math.nan), "alpha must be a finite number"),
            ((torch.tensor([1, 2]), 0.0, "yarn"), "alpha must be positive with kind='yarn'"),
            ((torch.tensor([1, 2]), torch.tensor([2.0, -1.0]), "yarn"), "alpha must be positive"),
        ],
    )
    def test_errors(self, arguments, match):
        with pytest.raises(ValueError, match=match):
            position_temperature(*arguments)


class TestTemperatureModule:
    @pytest.mark.parametrize("token", ["shared", "shared_all", "mlp", "feature", "none"])
    @pytest.mark.parametrize("position", ["linear", "yarn", "none"])
    def test_starts_at_one_with_a_gradient(self, token, position):
        if token == "none" and position != "linear":
            return
        module = TemperatureModule(3, 4, token=token, position=position, input_dim=12)
        assert module.starts_as_identity()
        x, hidden = draw(2, 3, 5, 4).float(), draw(2, 5, 12).float()
        n = torch.arange(2, 7)
        tau = module(x, n, hidden, draw(2, 5).float())
        assert tau.shape == (2, 3, 5)
        assert bool((tau == 1.0).all())
        (tau * draw(2, 3, 5).float()).sum().backward()
        trained = [module.weight] if token != "none" else [module.alpha]
        assert all(float(p.grad.abs().min()) > 0 for p in trained)

    @pytest.mark.parametrize("token", ["shared", "shared_all", "mlp", "feature"])
    def test_sum_of_token_and_position(self, token):
        module = TemperatureModule(3, 4, token=token, input_dim=12, bias=True).double()
        with torch.no_grad():
            for seed, parameter in enumerate(module.parameters()):
                parameter.copy_(draw(*parameter.shape, seed=seed))
                parameter.requires_grad_(False)
        x, hidden, feature = draw(2, 3, 5, 4), draw(2, 5, 12), draw(2, 5)
        n = torch.tensor([[1, 2, 3, 4, 5], [1, 1, 2, 3, 4]])
        tau = module(x, n, hidden, feature)
        b, h, t = 1, 2, 4
        if token == "shared":
            u = sum(w * gelu(z) for w, z in zip(module.weight[h].tolist(), x[b, h, t].tolist()))
        elif token == "shared_all":
            u = sum(
                w * gelu(z) for g in range(3) for w, z in zip(module.weight[g].tolist(), x[b, g, t].tolist())
            )
        elif token == "mlp":
            inner = [gelu(float(row @ hidden[b, t])) for row in module.hidden_weight]
            u = sum(w * z for w, z in zip(module.weight[h].tolist(), inner))
        else:
            u = float(module.weight[h] * feature[b, t])
        expected = math.tanh(u + float(module.bias[h])) + 1 + float(module.alpha[h]) * math.log(int(n[b, t]))
        assert float(tau[b, h, t]) == pytest.approx(expected, rel=1e-12)
        y = module.scale(x, n, hidden=hidden, feature=feature)
        torch.testing.assert_close(y, x * tau[..., None], rtol=1e-12, atol=1e-13)

    def test_alpha_per_layer_and_coefficient(self):
        module = TemperatureModule(3, 4, token="none", position="sigmoid", alpha_per="layer", alpha_init=-6.0)
        assert module.alpha.shape == ()
        assert float(module.coefficient().detach()) == pytest.approx(1 / (1 + math.exp(6)), rel=1e-6)
        assert not module.starts_as_identity()
        assert float(TemperatureModule(3, 4, position="none").coefficient()) == 0.0
        assert "alpha" not in dict(TemperatureModule(3, 4, position="yarn").named_parameters())

    @pytest.mark.parametrize(
        ("options", "match"),
        [
            ({"token": "vector"}, "token must be one of"),
            ({"position": "cubic"}, "position must be one of"),
            ({"alpha_per": "model"}, "alpha_per must be one of"),
            ({"token": "mlp"}, "input_dim must be given"),
            ({"token": "none", "bias": True}, "bias must be False"),
            ({"position": "none", "alpha_init": 1.0}, "alpha_init must be None"),
            ({"position": "yarn", "alpha_init": 0.0}, "alpha_init must be a finite number > 0"),
            ({"hidden_dim": 8}, "hidden_dim must be None with token='shared'"),
        ],
    )
    def test_errors(self, options, match):
        with pytest.raises(ValueError, match=match):
            TemperatureModule(3, 4, **options)

    def test_missing_inputs(self):
        x, n = draw(1, 3, 2, 4), torch.tensor([1, 2])
        with pytest.raises(ValueError, match="hidden must be given"):
            TemperatureModule(3, 4, token="mlp", input_dim=12)(x, n)
        with pytest.raises(ValueError, match="feature must be given"):
            TemperatureModule(3, 4, token="feature")(x, n)
        with pytest.raises(ValueError, match=r"x must have shape \(B, 3, T, 4\)"):
            TemperatureModule(3, 4)(draw(1, 2, 2, 4), n)

    def test_inputs_of_another_length(self):
        x, n = draw(2, 3, 5, 4), torch.arange(1, 6)
        network = TemperatureModule(3, 4, token="mlp", input_dim=12)
        table = TemperatureModule(3, 4, token="feature")
        for call in (network.forward, network.scale):
            with pytest.raises(ValueError, match=r"hidden must have shape \(2, 5, 12\); got \(2, 5, 7\)"):
                call(x, n, hidden=draw(2, 5, 7))
        for call in (table.forward, table.scale):
            with pytest.raises(ValueError, match=r"feature must have shape \(2, 5\); got \(2, 4\)"):
                call(x, n, feature=draw(2, 4))
        for wrong in (torch.arange(1, 4), torch.ones(3, 5), torch.ones(2, 1)):
            with pytest.raises(ValueError, match=r"n must have shape \((2, )?5,?\)"):
                TemperatureModule(3, 4)(x, wrong)
        assert TemperatureModule(3, 4)(x, n[None]).shape == (2, 3, 5)
