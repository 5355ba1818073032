"""What the optimizers promise beside the science: decay pulls only where it may, equal gradients make equal weights."""

import math
from typing import get_args

import pytest
import torch
from isometry.optim import OptimSettings, build_optimizers, named_groups, set_rate
from isometry.settings import validated
from torch import nn

NAMES = get_args(OptimSettings.model_fields["name"].annotation)


def test_an_overflow_on_the_first_step_leaves_no_trace():
    """torch's fused SGD would keep uninitialised memory as momentum here."""
    for name in NAMES:
        outcomes = []
        for has_overflow in (True, False):
            torch.manual_seed(0)
            model = nn.Linear(4, 4)
            optimizers = build_optimizers(model, OptimSettings(name=name))
            scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1000)
            for factor in [math.inf, 1.0, 1.0] if has_overflow else [1.0, 1.0]:
                scaler.scale(model(torch.ones(1, 4)).sum() * factor).backward()
                for optimizer in optimizers:
                    scaler.step(optimizer)
                scaler.update()
                model.zero_grad()
            outcomes.append(model.weight.detach().clone())
        assert torch.equal(*outcomes), name


class Zoo(nn.Module):
    """One of each kind of parameter."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(9, 6)
        self.body = nn.Linear(6, 6)
        self.norm = nn.LayerNorm((4, 6))
        self.conv = nn.Conv1d(4, 4, 3)
        self.gate = nn.Parameter(torch.tensor(1.0))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)
        self.flat = Flat()
        self.head = nn.Linear(6, 9, bias=False)
        self.out = nn.Linear(9, 1)


class Flat(nn.Module):
    """A matrix kept as a vector, which asks for decay."""

    decays = True

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(36))


def groups_of(model, **fields):
    return {
        name: set(parameters) for name, parameters in named_groups(build_optimizers(model, OptimSettings(**fields)))
    }


def test_decay_spares_norms_biases_vectors_and_embeddings():
    groups = groups_of(Zoo())
    assert groups["decay"] == {"body.weight", "conv.weight", "flat.weight", "head.weight", "out.weight"}
    assert groups["no decay"] == {
        "table.weight",
        "body.bias",
        "norm.weight",
        "norm.bias",
        "conv.bias",
        "gate",
        "out.bias",
    }
    assert groups_of(Zoo(), decay_all=True).keys() == {"decay"}


def test_muon_takes_hidden_matrices_only():
    groups = groups_of(Zoo(), name="muon")
    assert groups["matrices"] == {"body.weight"}
    assert groups["decay"] == {"conv.weight", "flat.weight", "head.weight", "out.weight"}
    muon, adamw = build_optimizers(Zoo(), OptimSettings(name="muon"))
    assert (type(muon), type(adamw)) == (torch.optim.Muon, torch.optim.AdamW)
    assert groups_of(Zoo(), name="muon", heads=())["matrices"] == {"body.weight", "head.weight"}


def test_a_tied_embedding_is_neither_decayed_nor_orthogonalised():
    for first in ("table", "head"):
        model = nn.Module()
        parts = {"table": nn.Embedding(9, 6), "head": nn.Linear(6, 9, bias=False)}
        parts["head"].weight = parts["table"].weight
        model.add_module(first, parts.pop(first))
        for name, part in parts.items():
            model.add_module(name, part)
        assert groups_of(model, name="muon") == {"no decay": {f"{first}.weight"}}


@pytest.mark.parametrize("name", NAMES)
def test_every_trainable_parameter_is_in_exactly_one_group(name):
    model = Zoo()
    listed = [
        n for _, parameters in named_groups(build_optimizers(model, OptimSettings(name=name))) for n in parameters
    ]
    assert sorted(listed) == sorted(n for n, p in model.named_parameters() if p.requires_grad)
    by_name = dict(model.named_parameters())
    for _, parameters in named_groups(build_optimizers(model, OptimSettings(name=name))):
        assert all(by_name[n] is p for n, p in parameters.items())


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_decoupled_decay_shrinks_by_rate_times_decay(name):
    model = nn.Linear(4, 4).double()
    before = model.weight.detach().clone()
    for optimizer in build_optimizers(model, OptimSettings(name=name, rate=0.1, decay=0.5)):
        model.weight.grad = torch.zeros_like(model.weight)
        optimizer.step()
    torch.testing.assert_close(model.weight.detach(), before * (1 - 0.1 * 0.5))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NAMES)
def test_same_gradients_give_the_same_weights_bit_for_bit(name, dtype):
    def trained():
        torch.manual_seed(0)
        model = Zoo().to(dtype)
        optimizers = build_optimizers(model, OptimSettings(name=name, momentum=0.8))
        for _ in range(3):
            for p in model.parameters():
                p.grad = torch.randn_like(p)
            for optimizer in optimizers:
                optimizer.step()
        return list(model.parameters())

    for a, b in zip(trained(), trained(), strict=True):
        assert a.dtype == dtype
        assert torch.equal(a, b)


def test_set_rate_multiplies_the_base_rate_every_time():
    optimizers = build_optimizers(Zoo(), OptimSettings(name="muon", rate=0.2))
    for factor in (0.5, 0.1, 1.0):
        set_rate(optimizers, factor)
        assert all(g["lr"] == 0.2 * factor for o in optimizers for g in o.param_groups)


def test_complex_parameters_are_trained_too():
    model = nn.Linear(3, 3, dtype=torch.complex64)
    (optimizer,) = build_optimizers(model, OptimSettings())
    model(torch.ones(1, 3, dtype=torch.complex64)).abs().sum().backward()
    optimizer.step()


def test_nothing_to_train_is_refused():
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizers(nn.Linear(2, 2).requires_grad_(False), OptimSettings())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rate": 0.0}, "'rate' is 0.0: input should be greater than 0"),
        ({"rate": math.nan}, "'rate' is nan"),
        ({"momentum": 1.0}, "'momentum' is 1.0: input should be less than 1"),
        ({"betas": (0.9, 1.5)}, "'betas.1' is 1.5"),
        ({"decay": -1.0}, "'decay' is -1.0"),
        ({"clip": 0.0}, "'clip' is 0.0"),
        ({"name": "adamm"}, "'name' is 'adamm': input should be 'sgd', 'adagrad'"),
        ({"schedule": {"name": "cosinus"}}, "'schedule.name' is 'cosinus'"),
        ({"lr": 1e-3}, "unknown key 'lr'"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(fields, message):
    with pytest.raises(ValueError, match="settings: ") as caught:
        validated(OptimSettings, fields, "settings")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
