"""The optimizers, chosen by name: torch's own classes, with parameter groups that say what decays and what does not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import nn

from isometry.schedule import ScheduleSettings
from isometry.settings import Settings

Forgetting = Annotated[float, Field(ge=0, lt=1)]

# What None means in OptimSettings: torch's own defaults, and the momentum and decay that papers commonly train with.
_USUAL: dict[str, dict[str, float]] = {
    "sgd": {"momentum": 0.9, "decay": 0.0, "eps": 0.0},
    "adagrad": {"momentum": 0.0, "decay": 0.0, "eps": 1e-10},
    "rmsprop": {"momentum": 0.0, "decay": 0.0, "eps": 1e-8},
    "adam": {"momentum": 0.0, "decay": 0.0, "eps": 1e-8},
    "adamw": {"momentum": 0.0, "decay": 0.01, "eps": 1e-8},
    "muon": {"momentum": 0.95, "decay": 0.01, "eps": 1e-8},
}


class OptimSettings(Settings):
    """Which optimizer, how large its steps, and what bounds them."""

    name: Literal["sgd", "adagrad", "rmsprop", "adam", "adamw", "muon"] = "adamw"
    """adamw needs least tuning; muon orthogonalises the updates of hidden matrices and leaves the rest to adamw; sgd
    has the smallest memory; adagrad never forgets a gradient, rmsprop and adam do."""

    rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    """Base learning rate, multiplied by the schedule. Usual: 1e-3 for adam, adamw and muon (whose updates are scaled to
    adamw's size), 1e-2 for adagrad, 1e-3 for rmsprop, 1e-2 to 1e-1 for sgd."""

    momentum: Forgetting | None = None
    """Memory of past steps, for sgd, rmsprop and muon. None: 0.9 for sgd, 0.95 for muon, 0 for rmsprop."""

    betas: tuple[Forgetting, Forgetting] = (0.9, 0.999)
    """adam, adamw, and muon's adamw part: forgetting of the mean gradient and of the mean squared gradient."""

    rho: Forgetting = 0.99
    """rmsprop: forgetting of the mean squared gradient; its memory is 1 / (1 - rho) steps."""

    eps: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Added to the root mean square of the gradient before the division; gradients far below it no longer count as
    their sign. None: 1e-8 (1e-10 for adagrad)."""

    decay: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Weight decay: decoupled from the gradient (times the rate) for adamw and muon, an L2 term in the gradient for the
    others. None: 0.01 for adamw and muon, 0 for the others."""

    decay_all: bool = False
    """Let weight decay pull on norms, biases and other one-dimensional parameters, and on embeddings, too."""

    heads: tuple[str, ...] = ("*head.*", "*readout.*")
    """muon: name patterns of output matrices, which go to adamw as embeddings do."""

    clip: float | None = Field(default=10.0, gt=0, allow_inf_nan=False)
    """Largest gradient norm over all parameters; longer gradients are shortened to it, keeping their direction. The
    default is out of a healthy run's way and bounds the step after a freak batch. None: no clipping."""

    schedule: ScheduleSettings = ScheduleSettings()
    """How the rate walks through the run."""

    def usual(self, field: Literal["momentum", "decay", "eps"]) -> float:
        """The value of a field that may be None: as set, or what is usual for this optimizer."""
        value = getattr(self, field)
        return _USUAL[self.name][field] if value is None else value


def memory(settings: OptimSettings) -> float:
    """Steps over which an optimizer remembers what it divides by (sgd and muon: what it adds up), M = 1 / (1 - ρ).

    A burst of large gradients is forgotten to 1 % after 4.6 M steps. Infinite for adagrad, which sums for ever: early
    large gradients keep a weight's steps small to the end. 1 for sgd without momentum, which remembers only this step.
    """
    if settings.name == "adagrad":
        return float("inf")
    rho = {"rmsprop": settings.rho, "adam": settings.betas[1], "adamw": settings.betas[1]}
    return 1 / (1 - rho.get(settings.name, settings.usual("momentum")))


def build_optimizers(model: nn.Module, settings: OptimSettings) -> list[torch.optim.Optimizer]:
    """The optimizers of every trainable parameter of `model`: one, or Muon and AdamW as a pair.

    Each parameter group has a "name" ("matrices", "decay", "no decay"), the "param_names" of its parameters, and its
    base rate as "initial_lr". A module may decide for its own direct parameters with an attribute `decays` (bool):
    flat weight vectors, which look like biases, need it. Hand over the bare model, before DDP wraps it; FSDP2 must
    have sharded it already.

    Raises:
        ValueError: no parameter requires a gradient.
    """
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError("the model has no parameter that requires a gradient: there is nothing to train")
    decaying = trainable.keys() if settings.decay_all else decaying_names(model)
    matrices = muon_names(model, settings.heads) & trainable.keys() if settings.name == "muon" else set()
    optimizers = []
    if matrices:
        optimizers.append(_muon({n: trainable[n] for n in trainable if n in matrices}, decaying, settings))
    if rest := {n: p for n, p in trainable.items() if n not in matrices}:
        optimizers.append(_elementwise(rest, decaying, settings))
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["initial_lr"] = group["lr"]
    return optimizers


def decaying_names(model: nn.Module) -> set[str]:
    """The parameters that weight decay pulls on: matrices and kernels, but no norm, bias, embedding or vector.

    Decay of a scale or an offset shrinks the signal instead of the function's complexity. A tied weight is spared when
    one of its uses is.
    """
    spared: set[int] = set()
    for module, name, parameter in _direct_parameters(model):
        by_shape = parameter.ndim > 1 and "bias" not in name and not _is_norm(module) and not _is_embedding(module)
        if not getattr(module, "decays", by_shape):
            spared.add(id(parameter))
    return {name for name, p in model.named_parameters() if id(p) not in spared}


def muon_names(model: nn.Module, heads: Sequence[str] = ()) -> set[str]:
    """The hidden matrices, which Muon may orthogonalise: two-dimensional, both sides longer than 1, no embedding, no
    norm, and no name that matches one of the patterns `heads`.

    Source: Jordan et al. 2024, "Muon", kellerjordan.github.io/posts/muon: input, output and vector parameters to AdamW.
    """
    embedded = {id(p) for module, _, p in _direct_parameters(model) if _is_embedding(module) or _is_norm(module)}
    return {
        name
        for name, p in model.named_parameters()
        if p.ndim == 2 and min(p.shape) > 1 and id(p) not in embedded and not any(fnmatch(name, h) for h in heads)
    }


def named_groups(optimizers: Iterable[torch.optim.Optimizer]) -> list[tuple[str, dict[str, nn.Parameter]]]:
    """Every parameter group, in order, as its name and its parameters by qualified name."""
    groups = (group for optimizer in optimizers for group in optimizer.param_groups)
    return [(g["name"], dict(zip(g["param_names"], g["params"], strict=True))) for g in groups]


def set_rate(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Sets every group's rate to `factor` times its base rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def _elementwise(
    parameters: dict[str, nn.Parameter], decaying: Iterable[str], settings: OptimSettings
) -> torch.optim.Optimizer:
    groups = _groups(parameters, set(decaying), settings.usual("decay"))
    rate, eps, momentum = settings.rate, settings.usual("eps"), settings.usual("momentum")
    if settings.name == "sgd":
        # Not fused: when GradScaler skips the first step, torch's fused SGD keeps uninitialised memory as momentum.
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, foreach=True)
    if settings.name == "adagrad":
        return torch.optim.Adagrad(groups, lr=rate, eps=eps, foreach=True)
    if settings.name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=rate, alpha=settings.rho, eps=eps, momentum=momentum, foreach=True)
    kind = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate, betas=settings.betas, eps=eps, **_fastest(parameters.values()))


def _muon(
    parameters: dict[str, nn.Parameter], decaying: Iterable[str], settings: OptimSettings
) -> torch.optim.Optimizer:
    """Muon with updates scaled to AdamW's root mean square, so that one rate and one decay serve both.

    Source: Liu et al. 2025, arXiv:2502.16982, eq. 4.
    """
    groups = _groups(parameters, set(decaying), settings.usual("decay"), "matrices")
    momentum = settings.usual("momentum")
    return torch.optim.Muon(groups, lr=settings.rate, momentum=momentum, adjust_lr_fn="match_rms_adamw")


def _groups(
    parameters: dict[str, nn.Parameter], decaying: set[str], decay: float, name: str = "decay"
) -> list[dict[str, Any]]:
    pulled = [item for item in parameters.items() if item[0] in decaying]
    free = [item for item in parameters.items() if item[0] not in decaying]
    groups = [
        {"name": name, "params": pulled, "weight_decay": decay},
        {"name": "no decay", "params": free, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _fastest(parameters: Iterable[nn.Parameter]) -> dict[str, bool]:
    """One fused kernel where torch has one (three times faster than foreach on a CPU), else foreach."""
    can_fuse = all(p.is_floating_point() and p.device.type in ("cpu", "cuda") for p in parameters)
    return {"fused": True} if can_fuse else {"foreach": True}


def _direct_parameters(model: nn.Module) -> Iterable[tuple[nn.Module, str, nn.Parameter]]:
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            yield module, name, parameter


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("Norm") or isinstance(module, nn.modules.batchnorm._NormBase)


def _is_embedding(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding | nn.EmbeddingBag)
