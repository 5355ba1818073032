"""Deep networks whose fate is known by training them: what the doctor's verdicts are held against."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from isometry.attention import Rotary, TransformerBlock
from isometry.blocks import Residual, residual_scale
from isometry.initialise import gain, initialise
from isometry.skips import dense_mlp, unet_1d
from torch import Tensor, nn

DEPTH, WIDTH, N_INPUTS, N_CLASSES, N_RECORDS = 50, 128, 64, 10, 128


class Net(NamedTuple):
    name: str
    make: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]


def classes_in_space() -> tuple[Tensor, Tensor]:
    """Ten overlapping clouds of points: [128, 64] inputs of unit second moment, [128] labels."""
    generator = torch.Generator().manual_seed(1)
    centres = torch.randn(N_CLASSES, N_INPUTS, generator=generator)
    labels = torch.randint(0, N_CLASSES, (N_RECORDS,), generator=generator)
    x = centres[labels] + torch.randn(N_RECORDS, N_INPUTS, generator=generator)
    return x / x.square().mean().sqrt(), labels


def classes_in_images() -> tuple[Tensor, Tensor]:
    """The same as images [128, 1, 8, 8]."""
    x, labels = classes_in_space()
    return x.view(N_RECORDS, 1, 8, 8), labels


def gratings() -> tuple[Tensor, Tensor]:
    """Noisy stripes on 8 × 8 pixels [128, 64]; the class is their direction, one of ten, the phase is random."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(0, N_CLASSES, (N_RECORDS,), generator=generator)
    angle, phase = math.pi * labels / N_CLASSES, 2 * math.pi * torch.rand(N_RECORDS, generator=generator)
    row, column = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    way = torch.cos(angle)[:, None, None] * column + torch.sin(angle)[:, None, None] * row
    x = torch.sin(1.2 * way + phase[:, None, None]) + 0.3 * torch.randn(N_RECORDS, 8, 8, generator=generator)
    return (x / x.square().mean().sqrt()).flatten(1), labels


def classes_in_time() -> tuple[Tensor, Tensor]:
    """The class is told in the first two steps of a sequence [64, 64, 8]; silence follows."""
    generator = torch.Generator().manual_seed(2)
    x = torch.zeros(64, 64, 8)
    labels = torch.randint(0, N_CLASSES, (64,), generator=generator)
    x[:, :2] = 2 * torch.randn(N_CLASSES, 2, 8, generator=generator)[labels]
    x[:, :2] += torch.randn(64, 2, 8, generator=generator)
    return x, labels


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


class Branch(nn.Module):
    def __init__(self, activation: Callable[[], nn.Module], width: int = WIDTH) -> None:
        super().__init__()
        self.linear, self.activation = nn.Linear(width, width), activation()

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.activation(x))


def plain(
    activation: Callable[[], nn.Module], begin: Callable[[nn.Linear], None], depth: int = DEPTH
) -> Callable[[], nn.Module]:
    """Linear layers with an activation after each but the last."""

    def make() -> nn.Module:
        widths = [N_INPUTS, *[WIDTH] * (depth - 1)]
        layers = [part for n, m in pairwise(widths) for part in (nn.Linear(n, m), activation())]
        return begun(nn.Sequential(*layers, nn.Linear(WIDTH, N_CLASSES)), begin)

    return make


def residual(
    activation: Callable[[], nn.Module], begin: Callable[[nn.Linear], None], scale: float, depth: int = DEPTH
) -> Callable[[], nn.Module]:
    """Blocks x + scale · W f(x) between an entry and a head."""

    def make() -> nn.Module:
        blocks = [Residual(Branch(activation), scale) for _ in range(depth - 2)]
        net = nn.Sequential(nn.Linear(N_INPUTS, WIDTH), *blocks, nn.Linear(WIDTH, N_CLASSES))
        return begun(net, begin)

    return make


def begun(net: nn.Module, begin: Callable[[nn.Linear], None]) -> nn.Module:
    for module in net.modules():
        if isinstance(module, nn.Linear):
            begin(module)
    return net


def as_torch(_layer: nn.Linear) -> None:
    """torch's own default: uniform, variance 1 / (3 fan-in)."""


def gain_of(factor: float) -> Callable[[nn.Linear], None]:
    def begin(layer: nn.Linear) -> None:
        nn.init.normal_(layer.weight, 0.0, factor / math.sqrt(layer.in_features))
        nn.init.zeros_(layer.bias)

    return begin


def orthogonal_of(factor: float) -> Callable[[nn.Linear], None]:
    def begin(layer: nn.Linear) -> None:
        nn.init.orthogonal_(layer.weight, factor)
        nn.init.zeros_(layer.bias)

    return begin


def critical(activation: str, depth: int = DEPTH) -> Callable[[], nn.Module]:
    """A plain net begun by the suite's own critical initialisation."""

    def make() -> nn.Module:
        net = plain(ACTIVATIONS[activation], as_torch, depth)()
        initialise(net, activation, method="critical", first="linear")
        return net

    return make


HE = math.sqrt(2)
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
}


class Convolutional(nn.Module):
    """20 convolutions of 3 × 3, with or without batch normalisation, to a mean over the image."""

    def __init__(self, has_norms: bool, channels: int = 16, depth: int = 20) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for n_in in [1, *[channels] * (depth - 1)]:
            layers += [nn.Conv2d(n_in, channels, 3, padding=1)]
            layers += [nn.BatchNorm2d(channels)] if has_norms else []
            layers += [nn.ReLU()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(channels, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Bare(nn.Module):
    """A Transformer's layer without norms: x + attention, x + perceptron, all matrices times `factor`."""

    def __init__(self, width: int, factor: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.perceptron = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.mul_(factor)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return x + self.perceptron(x)


class Attentive(nn.Module):
    """A Transformer over 8 tokens of 8 numbers: torch's encoder, or layers of one's own."""

    def __init__(self, norm_first: bool = True, own: Callable[[int], nn.Module] | None = None) -> None:
        super().__init__()
        n_layers, width = 8, 48
        self.entry, self.head = nn.Linear(8, width), nn.Linear(width, N_CLASSES)
        if own is not None:
            self.body: nn.Module = nn.Sequential(*[own(width) for _ in range(n_layers)])
        else:
            layer = nn.TransformerEncoderLayer(width, 4, 2 * width, 0.0, batch_first=True, norm_first=norm_first)
            self.body = nn.TransformerEncoder(layer, n_layers, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.entry(x.view(len(x), 8, 8))).mean(1))


def cosine_block(width: int) -> nn.Module:
    """The suite's own block: pre-norm, cosine attention with rotary positions, branches scaled for eight blocks."""
    position = Rotary(width // 4)
    return TransformerBlock(width, 4, "cosine", scale=residual_scale(16), position=position)


def densely_connected() -> nn.Module:
    """Each layer reads all before it."""
    dense = dense_mlp(N_INPUTS, 8, DEPTH - 1)
    return nn.Sequential(dense, nn.Linear(N_INPUTS + 8 * (DEPTH - 1), N_CLASSES))


class UNetwork(nn.Module):
    """The records as signals of 64 samples, through a U-Net to a mean over the samples."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.body, self.head = unet_1d([channels, 2 * channels, 4 * channels]), nn.Linear(channels, N_CLASSES)
        self.entry = nn.Conv1d(1, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.entry(x[:, None])).mean(-1))


class Equivariant(nn.Module):
    """Twelve gated layers on 16 scalars and 16 vectors, their weights times `factor`; e3nn's own normalisation at 1."""

    def __init__(self, factor: float, depth: int = 12) -> None:
        super().__init__()
        from e3nn import nn as enn
        from e3nn import o3

        hidden = o3.Irreps("16x0e + 16x1o")
        layers: list[nn.Module] = []
        for _ in range(depth):
            gate = enn.Gate("16x0e", [torch.tanh], "16x0e", [torch.sigmoid], "16x1o")
            mix = o3.Linear(hidden, gate.irreps_in)
            with torch.no_grad():
                mix.weight.mul_(factor)
            layers += [mix, gate]
        self.body, self.head = nn.Sequential(*layers), o3.Linear(hidden, f"{N_CLASSES}x0e")

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x))


class Recurrent(nn.Module):
    """The class is told by the last state.

    Args:
        forget: bias of the gates that keep the state; None: torch's own initialisation.
        spectral_radius: of the recurrent matrix of a plain RNN, made orthogonal.
    """

    def __init__(
        self,
        kind: Callable[..., nn.Module],
        forget: float | None = None,
        spectral_radius: float | None = None,
        width: int = 48,
    ) -> None:
        super().__init__()
        self.body, self.head = kind(8, width, batch_first=True), nn.Linear(width, N_CLASSES)
        if forget is not None:
            initialise(self.body, "linear", method="orthogonal", forget=forget)
        if spectral_radius is not None:
            nn.init.orthogonal_(self.body.weight_hh_l0, spectral_radius)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0][:, -1])


DEEP_NETS = [
    Net("ReLU, torch's default", plain(nn.ReLU, as_torch), classes_in_space),
    Net("ReLU, Xavier", plain(nn.ReLU, gain_of(1.0)), classes_in_space),
    Net("ReLU, He", plain(nn.ReLU, gain_of(HE)), classes_in_space),
    Net("ReLU, He × 1.3", plain(nn.ReLU, gain_of(1.3 * HE)), classes_in_space),
    Net("tanh, Xavier", plain(nn.Tanh, gain_of(1.0)), classes_in_space),
    Net("tanh, gain 5/3", plain(nn.Tanh, gain_of(5 / 3)), classes_in_space),
    Net("tanh, gain 3", plain(nn.Tanh, gain_of(3.0)), classes_in_space),
    Net("tanh, orthogonal", plain(nn.Tanh, orthogonal_of(1.0)), classes_in_space),
    Net("sigmoid, Xavier", plain(nn.Sigmoid, gain_of(1.0)), classes_in_space),
    Net("GELU, He", plain(nn.GELU, gain_of(HE)), classes_in_space),
    Net("GELU, matched gain", plain(nn.GELU, gain_of(1.5335)), classes_in_space),
    Net("GELU, critical", critical("gelu"), classes_in_space),
    Net("SiLU, matched gain", plain(nn.SiLU, gain_of(1.6765)), classes_in_space),
    Net("SiLU, critical", critical("silu"), classes_in_space),
    Net("SELU, LeCun", plain(nn.SELU, gain_of(1.0)), classes_in_space),
    Net("ReLU, He, residual × 1", residual(nn.ReLU, gain_of(HE), 1.0), classes_in_space),
    Net("ReLU, He, residual × 1/√L", residual(nn.ReLU, gain_of(HE), residual_scale(DEPTH - 2)), classes_in_space),
    Net("ReLU, default, residual × 1", residual(nn.ReLU, as_torch, 1.0), classes_in_space),
    Net("tanh, Xavier, residual × 1/√L", residual(nn.Tanh, gain_of(1.0), residual_scale(DEPTH - 2)), classes_in_space),
    Net("sigmoid, Xavier, residual × 1", residual(nn.Sigmoid, gain_of(1.0), 1.0), classes_in_space),
    Net("GELU, He, residual × 1", residual(nn.GELU, gain_of(HE), 1.0), classes_in_space),
    Net(
        "SiLU, matched, residual × 1/√L",
        residual(nn.SiLU, gain_of(1.6765), residual_scale(DEPTH - 2)),
        classes_in_space,
    ),
]
"""Fifty layers of every kind."""

OTHER_NETS = [
    Net("CNN, 20 layers, no norm", lambda: Convolutional(has_norms=False), classes_in_images),
    Net("CNN, 20 layers, batch norm", lambda: Convolutional(has_norms=True), classes_in_images),
    Net("Transformer, pre-norm", lambda: Attentive(norm_first=True), classes_in_space),
    Net("Transformer, post-norm", lambda: Attentive(norm_first=False), classes_in_space),
    Net("Transformer, no norms, × 1", lambda: Attentive(own=lambda width: Bare(width, 1.0)), classes_in_space),
    Net("Transformer, no norms, × 4", lambda: Attentive(own=lambda width: Bare(width, 4.0)), classes_in_space),
    Net("Transformer of the suite, cosine attention", lambda: Attentive(own=cosine_block), classes_in_space),
    Net("densely connected, 50 layers", densely_connected, classes_in_space),
    Net("U-Net, 3 levels", UNetwork, classes_in_space),
    Net("equivariant, e3nn's scale", lambda: Equivariant(1.0), classes_in_space),
    Net("equivariant, weights × 2", lambda: Equivariant(2.0), classes_in_space),
    Net("equivariant, weights × 0.2", lambda: Equivariant(0.2), classes_in_space),
]
"""Other architectures, to which the same thresholds must do justice."""

MEMORY_NETS = [
    Net("RNN, torch's default", lambda: Recurrent(nn.RNN), classes_in_time),
    Net("RNN, ρ = 0.5", lambda: Recurrent(nn.RNN, spectral_radius=0.5), classes_in_time),
    Net("RNN, ρ = 1", lambda: Recurrent(nn.RNN, spectral_radius=1.0), classes_in_time),
    Net("LSTM, torch's default", lambda: Recurrent(nn.LSTM), classes_in_time),
    Net("LSTM, forget bias 3", lambda: Recurrent(nn.LSTM, forget=3.0), classes_in_time),
    Net("GRU, torch's default", lambda: Recurrent(nn.GRU), classes_in_time),
    Net("GRU, update bias 3", lambda: Recurrent(nn.GRU, forget=3.0), classes_in_time),
]
"""What must be remembered lies 62 steps back: here the warning of forgetting is the verdict."""

HELD_OUT_NETS = [
    Net("leaky ReLU, torch's default, 30 layers", plain(nn.LeakyReLU, as_torch, 30), gratings),
    Net("leaky ReLU, He, 80 layers", plain(nn.LeakyReLU, gain_of(HE), 80), gratings),
    Net("ReLU, orthogonal × √2, 80 layers", plain(nn.ReLU, orthogonal_of(HE), 80), gratings),
    Net("ELU, torch's default, 30 layers", plain(nn.ELU, as_torch, 30), gratings),
    Net("ELU, He, 30 layers", plain(nn.ELU, gain_of(HE), 30), gratings),
    Net("Softplus, Xavier, 30 layers", plain(nn.Softplus, gain_of(1.0), 30), gratings),
    Net("Mish, matched gain, 30 layers", plain(nn.Mish, gain_of(gain("mish")), 30), gratings),
    Net("Mish, matched gain, 80 layers", plain(nn.Mish, gain_of(gain("mish")), 80), gratings),
    Net("Mish, critical, 80 layers", critical("mish", 80), gratings),
    Net("GELU, torch's default, 30 layers", plain(nn.GELU, as_torch, 30), gratings),
    Net("SiLU, He, 30 layers", plain(nn.SiLU, gain_of(HE), 30), gratings),
    Net("tanh, gain 2, 30 layers", plain(nn.Tanh, gain_of(2.0), 30), gratings),
    Net("tanh, gain 2, 80 layers", plain(nn.Tanh, gain_of(2.0), 80), gratings),
    Net("tanh, torch's default, 30 layers", plain(nn.Tanh, as_torch, 30), gratings),
    Net("SELU, LeCun, 80 layers", plain(nn.SELU, gain_of(1.0), 80), gratings),
    Net("ReLU, He, residual × 0.5, 80 layers", residual(nn.ReLU, gain_of(HE), 0.5, 80), gratings),
    Net("tanh, Xavier, residual × 1, 80 layers", residual(nn.Tanh, gain_of(1.0), 1.0, 80), gratings),
]
"""Depths, activations and data that no threshold was set on."""


class Outcome(NamedTuple):
    """What training made of a net: the smallest loss over the rates, averaged over the last steps."""

    loss: float
    rate: float
    start: float

    @property
    def learns(self) -> bool:
        """Whether it came below four fifths of what knowing nothing gives (ln 10 = 2.303)."""
        return self.loss < 0.8 * math.log(N_CLASSES)


def train(net: Net, n_steps: int = 200, rates: tuple[float, ...] = (0.1, 0.01, 0.001), seed: int = 0) -> Outcome:
    """Plain SGD with momentum 0.9 and gradients clipped at norm 1, at several rates; the best of them."""
    return min((train_at(net, rate, n_steps, seed) for rate in rates), key=lambda outcome: outcome.loss)


def train_at(net: Net, rate: float, n_steps: int, seed: int) -> Outcome:
    torch.manual_seed(seed)
    model, batch = net.make(), net.batch()
    optimizer = torch.optim.SGD(model.parameters(), rate, momentum=0.9)
    losses = []
    for _ in range(n_steps):
        loss = cross_entropy(model, batch)
        losses.append(loss.item())
        if not math.isfinite(losses[-1]):
            return Outcome(math.inf, rate, losses[0])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    last = losses[-20:]
    return Outcome(sum(last) / len(last), rate, losses[0])
