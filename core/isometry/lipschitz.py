"""How steep a network can be at most: operator norms, a certified bound of the whole, and spectral normalisation.

A layer's norm is that of the linear map it performs, in the Euclidean norm of one record. For convolutions this is not
the norm of the kernel laid flat: it is the largest singular value of the kernel's Fourier transform, over all
frequencies. Zero padding, a finite length and a stride only ever cut the endless convolution down, so its norm is a
bound for theirs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from isometry.activations import ELEMENTWISE, steepest
from isometry.blocks import GatedResidual, Residual, StochasticDepth

_SAMPLES = 16  # frequencies per position of a kernel: the bound is at most 1/cos(π/32) - 1 = 0.5 % above the norm
_SMALLEST = 1e-30

_Convolution = nn.modules.conv._ConvNd
_LINEAR = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
# In evaluation mode, which is what a bound is for, dropout hands on what it gets.
_HANDS_ON = (
    nn.Identity,
    nn.Flatten,
    nn.Unflatten,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
)


class Bound(NamedTuple):
    """|f(x) - f(y)| ≤ total · |x - y| for all x and y; and the bound of every layer by its name."""

    total: float
    layers: dict[str, float]


def lipschitz_bound(model: nn.Module) -> Bound:
    """A certified bound of the network's slope in evaluation mode, up to rounding.

    Product over what follows each other, of layers' norms and activations' steepest slopes; 1 + |s| L for a residual
    block. True for every input; the larger the depth, the less sharp.

    Raises:
        ValueError: names a module whose slope has no bound, or that is unknown.
    Source: Szegedy et al. 2014, arXiv:1312.6199, section 4.3.
    """
    layers: dict[str, float] = {}
    return Bound(_bound(model, "", layers), layers)


def operator_norm(layer: nn.Module) -> float:
    """The largest singular value of a linear layer; a bound at most 0.5 % above it per dimension of a convolution.

    The bound holds for every input size. A strided convolution may lie well below it.

    Raises:
        ValueError: no linear or convolution layer, or a padding that repeats the signal.
    Source: convolution: Sedghi et al. 2019, arXiv:1805.10408; padded with zeros: Araujo et al. 2021, arXiv:2006.08391,
        theorem 2; between sampled frequencies: Ehlich & Zeller 1964, doi:10.1007/BF01111276.
    """
    _check_linear(layer, "the layer")
    geometry = _geometry(layer)
    symbol = _symbol(_weight_at_rest(layer).double(), geometry)
    return torch.linalg.matrix_norm(symbol, 2).max().item() * _between_samples(geometry)


def spectrally_normalised(module: nn.Module, bound: float = 1.0) -> nn.Module:
    """Divides the weights of all linear and convolution layers in it by their norm, times `bound`, from now on.

    The norm is followed by one power iteration per training step; `certify` makes it exact. Initialise before. The
    weights remain what the optimizer sees, as `parametrizations.weight.original`.

    Returns:
        The module itself.
    Source: Miyato et al. 2018, arXiv:1802.05957, there with the norm of the kernel laid flat.
    """
    if not 0 < bound < math.inf:
        raise ValueError(f"bound is {bound}; expected a positive number, the norm that every layer shall have")
    layers = {name: layer for name, layer in module.named_modules() if _is_linear(layer)}
    if not layers:
        raise ValueError(f"{type(module).__name__} holds no linear or convolution layer to normalise")
    for name, layer in layers.items():
        _check_linear(layer, f"layer {name!r}")
        if not parametrize.is_parametrized(layer, "weight"):
            parametrize.register_parametrization(layer, "weight", _UnitNorm(layer, bound))
    return module


def certify(model: nn.Module) -> Bound:
    """Makes the norms of spectrally normalised layers exact, then gives the bound; to be done when training is over."""
    for layer in model.modules():
        if parametrize.is_parametrized(layer, "weight"):
            parametrizations: Any = layer.parametrizations
            for part in parametrizations.weight:
                if isinstance(part, _UnitNorm):
                    part.find_exactly(parametrizations.weight.original)
    return lipschitz_bound(model)


class _UnitNorm(nn.Module):
    """weight -> bound · weight / norm; the left singular vector at every frequency is kept, as real numbers."""

    def __init__(self, layer: nn.Module, bound: float):
        super().__init__()
        self.bound, self.geometry = bound, _geometry(layer)
        self.factor = _between_samples(self.geometry)
        self.left: Tensor
        weight: Any = layer.weight
        self.register_buffer("left", self._exact(weight))

    def forward(self, weight: Tensor) -> Tensor:
        with torch.autocast(weight.device.type, enabled=False):
            symbol = _symbol(weight, self.geometry)
            if self.training:
                self._iterate(symbol.detach())
            norms = torch.linalg.vector_norm(symbol.mH @ self._left(symbol), dim=(-2, -1))
            return weight * (self.bound / (norms.max() * self.factor).clamp(min=_SMALLEST)).to(weight.dtype)

    def find_exactly(self, weight: Tensor) -> None:
        self.left.copy_(self._exact(weight))

    def _left(self, symbol: Tensor) -> Tensor:
        left = self.left.clone()  # it may move on before the backward pass
        return (torch.view_as_complex(left) if symbol.is_complex() else left).to(symbol.dtype)

    def _iterate(self, symbol: Tensor) -> None:
        with torch.no_grad():
            before = self._left(symbol)
            left = symbol @ (symbol.mH @ before)
            size = torch.linalg.vector_norm(left, dim=(-2, -1), keepdim=True)
            left = torch.where(size > _SMALLEST, left / size.clamp(min=_SMALLEST), before)
            self.left.copy_(torch.view_as_real(left) if left.is_complex() else left)

    def _exact(self, weight: Tensor) -> Tensor:
        """[n_matrices, n_out, 1], of complex numbers [n_matrices, n_out, 1, 2], in the weight's precision."""
        left = torch.linalg.svd(_symbol(weight.detach().double(), self.geometry), full_matrices=False)[0][..., :1]
        return (torch.view_as_real(left.contiguous()) if left.is_complex() else left).to(weight.dtype)


class _Geometry(NamedTuple):
    groups: int
    kernel_size: tuple[int, ...]  # of a convolution


def _geometry(layer: nn.Module) -> _Geometry:
    return _Geometry(layer.groups, layer.kernel_size) if isinstance(layer, _Convolution) else _Geometry(1, ())


def _symbol(weight: Tensor, geometry: _Geometry) -> Tensor:
    """The matrices whose norms make up the layer's: [n_frequencies · groups, n_out, n_in] (transposed: swapped)."""
    weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
    if not geometry.kernel_size:
        return weight[None]
    kernel = weight.unflatten(0, (geometry.groups, -1))
    dims = tuple(range(3, kernel.ndim))
    # Dilation only reorders the frequencies; a real kernel has the same norms at opposite ones.
    symbol = torch.fft.rfftn(kernel, [_SAMPLES * size if size > 1 else 1 for size in geometry.kernel_size], dims)
    return symbol.movedim(dims, tuple(range(len(dims)))).flatten(0, -3)


def _between_samples(geometry: _Geometry) -> float:
    """How far the norm may rise between the frequencies sampled: 1 / cos(π m / N) for degree m and N samples."""
    degrees = [(size // 2, _SAMPLES * size) for size in geometry.kernel_size]
    return math.prod(1 / math.cos(math.pi * degree / n_samples) for degree, n_samples in degrees if degree)


def _bound(module: nn.Module, name: str, layers: dict[str, float]) -> float:
    """The module's bound; notes those of the layers in it."""
    inner = f"{name}." if name else ""
    if _acts_as(module, nn.Sequential):  # a module that comes twice counts twice
        return math.prod(
            [_bound(child, inner + key, layers) for key, child in module._modules.items() if child is not None]
        )
    if isinstance(module, Residual):
        return 1 + abs(float(module.scale)) * _bound(module.branch, inner + "branch", layers)
    if isinstance(module, GatedResidual):
        return 1 + abs(module.gate.item()) * _bound(module.branch, inner + "branch", layers)
    if isinstance(module, StochasticDepth):
        share = float(module.keep) if module.rescale == "inference" else 1.0
        return share * _bound(module.branch, inner + "branch", layers)
    layers[name] = _bound_of_layer(module, name)
    return layers[name]


def _bound_of_layer(module: nn.Module, name: str) -> float:
    if _acts_as(module, *_HANDS_ON):
        return 1.0
    if isinstance(module, nn.PReLU):
        return max(1.0, module.weight.detach().abs().max().item())
    if _acts_as(module, *ELEMENTWISE):
        return steepest(module)
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
        weight = 1.0 if module.weight is None else module.weight.detach().double().abs()
        return float((weight / (module.running_var.double() + module.eps).sqrt()).max())
    if _is_linear(module):
        _check_linear(module, f"layer {name!r}")
        return operator_norm(module)
    kind = type(module).__name__
    reason = "divides by the size of its input, which may be as small as it likes" if "Norm" in kind else "is unknown"
    raise ValueError(
        f"{name or 'the model'!r} ({kind}) {reason}: no bound of its slope; known are linear and convolution layers, "
        "activations, batch norm, dropout, Sequential, Residual, GatedResidual and StochasticDepth"
    )


def _is_linear(layer: nn.Module) -> bool:
    return _acts_as(layer, *_LINEAR)


def _acts_as(module: nn.Module, *kinds: type[nn.Module]) -> bool:
    """Whether it is of one of these kinds, and no descendant with a mind of its own."""
    return any(isinstance(module, kind) and type(module).forward is kind.forward for kind in kinds)


def _weight_at_rest(layer: nn.Module) -> Tensor:
    """The weight as in evaluation: reading a normalised one in training would move its singular vectors on."""
    was_training = layer.training
    try:
        weight: Any = layer.eval().weight
        return weight.detach()
    finally:
        layer.train(was_training)


def _check_linear(layer: nn.Module, name: str) -> None:
    if not _is_linear(layer):
        raise ValueError(f"{name} is a {type(layer).__name__}; expected a linear or convolution layer")
    padding_mode = getattr(layer, "padding_mode", "zeros")
    if padding_mode != "zeros":
        raise ValueError(
            f"{name} pads by {padding_mode!r}, which repeats the signal: no bound; use padding_mode 'zeros'"
        )
