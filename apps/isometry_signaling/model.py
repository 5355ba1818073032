"""The network: an encoder of the ligand, the noisy state that a cell keeps, and what is read off it."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from isometry.calibrate import Temperature
from isometry.initialise import Projection, initialise
from isometry.settings import Settings
from pydantic import NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn

from isometry_signaling.decoders import ClassDecoder, Environment, GeneDecoder, VectorDecoder
from isometry_signaling.encoders import ALONG_TIME, encoder
from isometry_signaling.encoders import Kind as EncoderKind
from isometry_signaling.state import CategoricalState, GaussianState, State
from isometry_signaling.state import Kind as StateKind


class ModelSettings(Settings):
    """Size of the network, and what it learnt from the training data before the first step."""

    encoder: EncoderKind = "mlp"
    """linear, or mlp: all that a cell meets at once; convolution, recurrent, attention: along a time course."""
    width: PositiveInt = 32
    n_layers: PositiveInt = 2
    """Hidden layers of the encoder."""
    kernel: PositiveInt = 5
    """Moments that a convolution sees; odd."""
    n_heads: PositiveInt = 2
    """Of the attention."""
    state: StateKind = "gaussian"
    """gaussian: S = f(L) + noise; categorical: one of n_state kinds, as of a promoter."""
    n_state: PositiveInt = 2
    """Dimensions, or kinds."""
    noise: Literal["shared", "own"] = "own"
    """Of a gaussian state: as large for all cells, or set by what a cell meets."""
    n_components: NonNegativeInt = 8
    """Gaussians of the marginal by which a gaussian state is coded; 0: one of any covariance, with an exact rate."""
    n_draws: PositiveInt | None = 8
    """Values of a gaussian state over which a cell's expectations go; None: all that a linear decoder to numbers needs
    for an exact one."""
    decoder: NonNegativeInt = 32
    """Hidden units of what reads the state; 0: linear."""
    environment: Literal["classes", "numbers"] = "classes"
    """What the environment is; filled from the data, as all that follows."""
    length: PositiveInt = 1
    """Moments of a time course; 1: no course."""
    n_channels: PositiveInt = 1
    """Ligands (or measured responses) at each moment."""
    n_numbers: NonNegativeInt = 0
    """Of an environment that is no class."""
    prior: tuple[float, ...] = ()
    """p(E) of classes."""
    labels: tuple[str, ...] = ()
    """Names of the classes."""
    input: str = "environment"
    """Column of the environment."""
    ligands: tuple[str, ...] = ()
    """Columns, channel by channel within moment by moment."""
    genes: tuple[str, ...] = ()
    """Columns of expression."""
    gene_means: tuple[float, ...] = ()
    gene_scales: tuple[float, ...] = ()
    is_compressed: bool = False
    """What a cell meets goes through asinh, linear up to a low value of its column and logarithmic above."""
    low: tuple[float, ...] = ()
    """[length x n_channels] these values; empty: not compressed."""
    shift: tuple[float, ...] = ()
    """[length x n_channels] subtracted from what a cell meets."""
    whitening: tuple[tuple[float, ...], ...] = ()
    """[n, n] by which that is multiplied: to unit covariance for linear and mlp, to unit variance along time."""

    @model_validator(mode="after")
    def _check(self) -> ModelSettings:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; expected an odd number of moments")
        if self.encoder == "attention" and (self.width % 2 or self.width % self.n_heads):
            raise ValueError(f"width {self.width} with {self.n_heads} heads; expected an even multiple of the heads")
        if self.n_draws is None and self.state == "gaussian" and (self.decoder or self.n_components):
            raise ValueError("n_draws None is exact for decoder 0 and n_components 0 alone; set these, or n_draws")
        return self


class Kept(NamedTuple):
    """What a batch of cells keeps and what is read off it."""

    state: State
    environment: Environment
    gene_loss: Tensor  # [n] nats; 0 without genes
    genes: Tensor  # [n, n_genes] expected expression in standard deviations


class SignalingModel(nn.Module):
    """Ligand to state to environment and genes."""

    low: Tensor
    shift: Tensor
    whitening: Tensor

    def __init__(self, settings: ModelSettings):
        super().__init__()
        s = self.settings = settings
        n_in = s.length * s.n_channels
        shape = {"length": s.length, "n_channels": s.n_channels, "kernel": s.kernel, "n_heads": s.n_heads}
        self.encoder = encoder(s.encoder, width=s.width, n_layers=s.n_layers, **shape)
        self.state = _state(s)
        self.entry = Projection(self.encoder.n_out, self.state.n_raw)
        initialise(self.entry, "linear")
        self.environment = _environment(s)
        self.posterior = Temperature() if s.environment == "classes" else None
        self.genes = GeneDecoder(s.n_state, len(s.genes), s.decoder) if s.genes else None
        self.register_buffer("low", torch.tensor(s.low) if s.low else torch.ones(n_in), persistent=False)
        self.register_buffer("shift", torch.tensor(s.shift or (0.0,) * n_in), persistent=False)
        whitening = torch.tensor(s.whitening) if s.whitening else torch.eye(n_in)
        self.register_buffer("whitening", whitening, persistent=False)

    def keep(self, ligand: Tensor, noise: Tensor) -> State:
        """The state of cells that meet ligand [n, length, n_channels], with noise [n, n_draws, n_state]."""
        x = ligand.flatten(1)
        x = torch.asinh(x / self.low) if self.settings.low else x
        x = (x - self.shift) @ self.whitening.T
        return self.state(self.entry(self.encoder(x.view_as(ligand))), noise)

    def forward(
        self, ligand: Tensor, noise: Tensor, environment: Tensor, genes: Tensor, gene_push: float = 0.0
    ) -> Kept:
        """Shapes as in `Cell`; `gene_push`: share of the genes' gradient that reaches the state."""
        state = self.keep(ligand, noise)
        decoded = self.environment(state.values, environment)
        if self.genes is None:
            return Kept(state, decoded, torch.zeros_like(state.rate), genes)
        values, shares = (_damped(x, gene_push) for x in (state.values, state.shares))
        loss, mean = self.genes(values, self.scaled(genes))
        return Kept(state, decoded, (shares * loss).sum(1), (shares[..., None] * mean).sum(1))

    def told(self, kept: Kept) -> Tensor:
        """[n, n_environments] what is read off the states that a cell may take, averaged and calibrated."""
        assert self.posterior is not None
        return self.posterior(log_posterior(kept)).softmax(-1)

    def warm(self, ratio: float) -> None:
        """Make ready for a beta that is larger by this ratio."""
        if isinstance(self.state, CategoricalState):
            self.state.warm(ratio)

    def scaled(self, genes: Tensor) -> Tensor:
        """Expression in standard deviations."""
        s = self.settings
        return (genes - genes.new_tensor(s.gene_means)) / genes.new_tensor(s.gene_scales)


def log_posterior(kept: Kept) -> Tensor:
    """[n, n_environments] log of the decoder's probabilities, averaged over the states that a cell may take."""
    return (kept.state.shares.log()[..., None] + kept.environment.told).logsumexp(1)


def _damped(x: Tensor, share: float) -> Tensor:
    """The same, with `share` of its gradient."""
    return x.detach() + share * (x - x.detach()) if share else x.detach()


def _state(s: ModelSettings) -> GaussianState | CategoricalState:
    if s.state == "categorical":
        return CategoricalState(s.n_state)
    if s.n_draws is None and s.environment == "classes":
        raise ValueError("model.n_draws None is exact for an environment of numbers alone; give a number of draws")
    return GaussianState(s.n_state, s.noise == "own", s.n_components, s.n_draws is None)


def _environment(s: ModelSettings) -> ClassDecoder | VectorDecoder:
    if s.environment == "numbers":
        return VectorDecoder(s.n_state, s.n_numbers, s.decoder)
    return ClassDecoder(s.n_state, s.prior or (0.5, 0.5), s.decoder)


def is_along_time(s: ModelSettings) -> bool:
    """Whether the encoder needs a time course."""
    return s.encoder in ALONG_TIME
