"""The subject of an examination: held still bit for bit, its leaves found in whatever batch, its entry and gates."""

import dataclasses
import json
import random
from collections import namedtuple

import numpy as np
import pytest
import torch
from isometry.doctor.backward import measure_backward
from isometry.doctor.forward import measure_forward
from isometry.doctor.leaves import first_float, float_leaves, replaced, tensors
from isometry.doctor.predicted import predict
from isometry.doctor.still import differentiable_twice, held_still
from isometry.doctor.subject import Subject
from isometry.randomness import random_state
from torch import nn


class Everything(nn.Module):
    """What an examination could disturb: running statistics, a dropout, a frozen and an in-place layer, a hook."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(2, 6, 3)
        self.norm = nn.BatchNorm1d(6, momentum=0.3)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.4)
        self.last = nn.Linear(6 * 6, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("table", torch.full((3,), float("nan")))
        self.first.bias.requires_grad_(False)
        self.drop.eval()
        self.handle = self.last.register_forward_hook(lambda *_: None)
        self.last.weight.grad = torch.randn(1, 36)

    def forward(self, x):
        self.calls += 1
        self.table = self.table + 1  # replaced, not filled
        return self.last(self.drop(self.act(self.norm(self.first(x)))).flatten(1))


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def squared(model, batch):
    return model(batch).square().mean()


def state_of(model):
    """Whatever can be told of a model from outside, as comparable data."""
    tensors = {name: (id(t), t.detach().clone()) for name, t in (*model.named_parameters(), *model.named_buffers())}
    grads = {name: (id(p.grad), None if p.grad is None else p.grad.clone()) for name, p in model.named_parameters()}
    modules = {name: (m.training, getattr(m, "momentum", None), getattr(m, "inplace", None), len(m._forward_hooks))
               for name, m in model.named_modules()}  # fmt: skip
    frozen = {name: p.requires_grad for name, p in model.named_parameters()}
    flush = bool(torch.tensor(1.2e-38) * torch.tensor(0.5) == 0)
    return {**tensors, **{f"{n}.grad": g for n, g in grads.items()}}, (modules, frozen, flush)


def same(one, other):
    (left, rest), (right, others) = one, other
    assert rest == others
    assert left.keys() == right.keys()
    for name, (identity, tensor) in left.items():
        assert identity == right[name][0], name
        if tensor is not None:
            assert tensor.numpy().tobytes() == right[name][1].numpy().tobytes(), name


def random_bits():
    state = random_state()
    return state["python"], state["numpy"]["keys"].tolist(), state["numpy"]["position"], state["torch"].tolist()


@pytest.mark.parametrize("end", ["well", "badly"])
def test_an_examined_network_is_bit_for_bit_what_it_was(end):
    model, x = Everything(), torch.randn(8, 2, 8)
    before, bits, untouched = state_of(model), random_bits(), x.clone()
    try:
        with Subject.of(model, x, squared) as subject:
            measure_forward(subject)
            measure_backward(subject)
            predict(subject)
            model.last.register_forward_hook(lambda *_: None)
            with torch.no_grad():
                model.last.weight.mul_(2)
            if end == "badly":
                raise KeyError("in the middle")
    except KeyError:
        pass
    same(before, state_of(model))
    assert random_bits() == bits
    assert torch.equal(x, untouched)


def test_a_refused_loss_disturbs_nothing_either():
    model = Everything()
    before = state_of(model)
    for loss, words in (
        (lambda m, b: m(b), r"gave \(8, 1\); expected one number"),
        (lambda m, b: m(b).sum().item(), "gave float"),
        (lambda m, b: m(b).sum().detach(), "depends on no trainable parameter"),
    ):
        with pytest.raises(ValueError, match=words), Subject.of(model, torch.randn(8, 2, 8), loss):
            pass
    same(before, state_of(model))


def test_flags_of_the_process_are_put_back():
    flags = (
        lambda: torch.backends.mkldnn.enabled,
        lambda: torch.backends.cudnn.enabled,
        torch.backends.mha.get_fastpath_enabled,
        torch.backends.cuda.flash_sdp_enabled,
        torch.is_grad_enabled,
    )
    before = [flag() for flag in flags]
    with pytest.raises(KeyError), differentiable_twice():
        raise KeyError
    with torch.no_grad(), Subject.of(nn.Linear(2, 1), torch.randn(4, 2), squared) as subject:
        assert subject.run().loss.requires_grad
    assert [flag() for flag in flags] == before


def test_a_model_moved_by_hand_while_held_still_returns():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    before = state_of(model)
    with held_still(model):
        model(torch.randn(5, 3)).sum().backward()
        model.eval()
        model[0].weight.requires_grad_(False)
        model[1].running_mean = torch.ones(3)
        random.random(), np.random.rand(), torch.rand(1)
    same(before, state_of(model))


def test_a_network_that_grew_a_buffer_or_changed_its_number_format_returns():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    model.register_buffer("unsaved", torch.ones(2), persistent=False)
    before, saved, at = state_of(model), list(model.state_dict()), model[0].weight.data_ptr()
    with held_still(model):
        model[0].register_buffer("grown", torch.ones(3))
        model.register_buffer("unsaved", torch.zeros(2), persistent=True)
        model.double()
        model(torch.randn(5, 3).double()).sum().backward()
    same(before, state_of(model))
    assert list(model.state_dict()) == saved
    assert {tensor.dtype for tensor in (*model.parameters(), model.unsaved)} == {torch.float32}
    assert model[0].weight.data_ptr() == at


def test_the_same_random_numbers_are_drawn_in_every_live_run():
    model = Everything().train()
    with Subject.of(model, torch.randn(8, 2, 8), squared) as subject:
        subject.live()
        assert subject.run().loss == subject.run().loss
        dropped = subject.run().outputs["drop"]
        subject.quiet()
        assert not torch.equal(dropped, subject.run().outputs["drop"])


def test_quiet_norms_act_as_on_this_batch():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    with Subject.of(model, 5 + 3 * torch.randn(256, 4), squared) as subject:
        subject.live()
        live = subject.run().outputs["1"]
        subject.quiet()
        torch.testing.assert_close(subject.run().outputs["1"], live, rtol=5e-3, atol=5e-3)


# Batches


@dataclasses.dataclass(frozen=True)
class Sample:
    x: torch.Tensor
    index: torch.Tensor
    name: str = "a"


Pair = namedtuple("Pair", ["x", "y"])


class Plain:
    def __init__(self, x):
        self.x, self.label = x, "b"


def batches():
    x = torch.randn(6, 3)
    yield "tensor", x, lambda b: b
    yield "dict", {"x": x, "y": torch.zeros(6, dtype=torch.int64)}, lambda b: b["x"]
    yield "tuple", (x, None, "words"), lambda b: b[0]
    yield "nested", [{"inner": (x,)}], lambda b: b[0]["inner"][0]
    yield "named tuple", Pair(x, 1), lambda b: b.x
    yield "dataclass", Sample(x, torch.arange(6)), lambda b: b.x
    yield "object", Plain(x), lambda b: b.x
    packed = nn.utils.rnn.pack_sequence([torch.randn(4, 3), torch.randn(2, 3)])
    yield "packed sequence", packed, lambda b: b.data
    data = pytest.importorskip("torch_geometric.data")
    edges = torch.tensor([[0, 1], [1, 0]])
    graphs = [data.Data(x=torch.randn(2, 3), edge_index=edges) for _ in range(3)]
    yield "graphs", data.Batch.from_data_list(graphs), lambda b: b.x


@pytest.mark.parametrize(("name", "batch", "x_of"), [pytest.param(*case, id=case[0]) for case in batches()])
def test_leaves_are_found_and_replaced_in_any_batch(name, batch, x_of):
    original = x_of(batch).clone()
    (path,) = float_leaves(batch)
    assert torch.equal(float_leaves(batch)[path], original)
    other = replaced(batch, {path: original + 1})
    assert type(other) is type(batch)
    assert torch.equal(x_of(other), original + 1)
    assert torch.equal(x_of(batch), original)
    assert len(tensors(batch)) >= 1
    net = nn.Linear(3, 1)
    with Subject.of(net, batch, lambda m, b: m(x_of(b)).square().mean()) as subject:
        assert subject.entry == [path]
        assert subject.gates == []
        assert [row.name for row in measure_forward(subject).rows] == [""]


def test_labels_are_no_entry():
    batch = {"x": torch.randn(8, 3), "y": torch.randn(8, 1)}
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    with Subject.of(net, batch, lambda m, b: (m(b["x"]) - b["y"]).square().mean()) as subject:
        assert subject.entry == [("x",)]


def test_tokens_enter_by_their_embedding():
    net = nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 1))
    with Subject.of(net, torch.randint(0, 7, (5, 3)), squared) as subject:
        assert subject.entry == []
        assert subject.gates == ["0"]
        offset = torch.full((5, 3, 4), 0.5)
        plain, moved = subject.run(), subject.run(offsets={"0": offset})
    torch.testing.assert_close(moved.outputs["0"], plain.outputs["0"] + offset)
    assert moved.loss != plain.loss


def test_the_first_real_numbers_are_found_in_what_layers_hand_on():
    x = torch.randn(2)
    assert first_float((torch.arange(3), {"a": [None, x]})) is x
    assert first_float((torch.arange(3), "words")) is None
    assert first_float(nn.utils.rnn.pack_sequence([x[:, None]])).shape == (2, 1)


# Layers


def test_layers_are_told_in_the_order_of_execution_each_call_by_itself():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.cell, self.unused = nn.Linear(3, 1), nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x):
            return self.last(self.cell(torch.tanh(self.cell(x))))

    with Subject.of(Tied(), torch.randn(4, 3), squared) as subject:
        assert [layer.name for layer in subject.layers] == ["cell", "cell@2", "last"]
        assert all(layer.has_weight for layer in subject.layers)


def test_a_block_with_a_parameter_of_its_own_is_no_weight_layer():
    class Placed(nn.Module):
        def __init__(self):
            super().__init__()
            self.positions, self.inner = nn.Parameter(torch.zeros(5, 3)), nn.Linear(3, 1)

        def forward(self, x):
            return self.inner(x + self.positions)

    with Subject.of(Placed(), torch.randn(4, 5, 3), squared) as subject:
        assert [(layer.name, layer.has_weight) for layer in subject.layers] == [("inner", True), ("", False)]
    activated = nn.Sequential(nn.Linear(3, 3))
    activated[0].add_module("act", nn.Tanh())
    activated[0].forward = lambda x: activated[0].act(x @ activated[0].weight)
    with Subject.of(activated, torch.randn(4, 3), squared) as subject:
        assert [(layer.name, layer.has_weight) for layer in subject.layers] == [("0.act", False), ("0", True)]
    attention = nn.MultiheadAttention(4, 2, batch_first=True)
    with Subject.of(attention, torch.randn(2, 3, 4), lambda m, b: m(b, b, b)[0].square().mean()) as subject:
        assert [(layer.name, layer.has_weight) for layer in subject.layers] == [("", True)]


def test_activations_in_place_do_not_overwrite_what_came_before():
    net = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.Linear(8, 1))
    with Subject.of(net, torch.randn(16, 3), squared) as subject:
        assert subject.run().outputs["0"].min() < 0
    assert net[1].inplace


def test_a_loss_that_calls_parts_only_is_examined():
    net = nn.ModuleDict({"encoder": nn.Linear(3, 4), "decoder": nn.Linear(4, 3)})
    with Subject.of(
        net, torch.randn(8, 3), lambda m, b: (m["decoder"](m["encoder"](b)) - b).square().mean()
    ) as subject:
        assert [row.name for row in measure_forward(subject).rows] == ["encoder", "decoder"]
        assert measure_backward(subject).rows[0].norm > 0


def test_forces_by_an_inner_derivative_are_examined():
    net = nn.Sequential(nn.Linear(3, 8), nn.SiLU(), nn.Linear(8, 1))

    def loss(model, x):
        x = x.detach().requires_grad_()
        (force,) = torch.autograd.grad(model(x).sum(), x, create_graph=True)
        return force.square().mean()

    with Subject.of(net, torch.randn(8, 3), loss) as subject:
        found = measure_backward(subject)
        measure_forward(subject)
    assert found.weights[0].norm > 0


def odd_nets():
    tokens, x = torch.randint(0, 9, (5, 3)), torch.randn(8, 6)
    yield "sparse gradients", nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Flatten(), nn.Linear(12, 1)), tokens
    yield "a bag of embeddings", nn.Sequential(nn.EmbeddingBag(9, 4), nn.Linear(4, 1)), tokens
    scripted = torch.jit.script(nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)))
    yield "compiled", scripted, x
    yield "one record", nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 1)), x[:1]
    yield "nothing but zeros", nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 1)), torch.zeros(8, 6)
    yield "bfloat16", nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 1)).bfloat16(), x.bfloat16()
    yield "everything dropped", nn.Sequential(nn.Linear(6, 4), nn.Dropout(1.0), nn.Linear(4, 1)), x
    weight_norm = nn.utils.parametrizations.weight_norm
    yield "parametrised", nn.Sequential(weight_norm(nn.Linear(6, 4)), nn.PReLU(), nn.Linear(4, 1)), x
    frozen = nn.Linear(6, 4).requires_grad_(False)
    yield "frozen", nn.Sequential(frozen, nn.ReLU(), nn.Linear(4, 1)), x
    yield "without records", nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Conv1d(4, 1, 3)), torch.randn(3, 12)
    transposed = nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 1, 3, padding="same"))
    yield "transposed", transposed, torch.randn(2, 3, 6, 6)
    grouped = nn.Conv2d(4, 8, 3, groups=2, padding=1, padding_mode="circular")
    yield "grouped", nn.Sequential(grouped, nn.GroupNorm(2, 8), nn.Conv2d(8, 1, 3)), torch.randn(2, 4, 6, 6)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("name", "model", "batch"), [pytest.param(*case, id=case[0]) for case in odd_nets()])
def test_odd_networks_are_examined_without_an_exception(name, model, batch):
    with Subject.of(model, batch, squared) as subject:
        for record in (measure_forward(subject), measure_backward(subject), predict(subject)):
            json.dumps(dataclasses.asdict(record))
