"""The network: a stem from bases to bins, a trunk that carries signals between bins, and any subset of heads.

Lengths are free, from one base to as many as memory holds: what a window lacks to whole bins is filled with N.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from isometry.calibrate import Temperature
from isometry.initialise import Projection, initialise
from isometry.settings import Settings
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from isometry_genome.levels import levels_of
from isometry_genome.stem import Decoder, Stem, make_causal
from isometry_genome.strands import begun_head, tie, turned
from isometry_genome.trunk import Trunk

Head = Literal["classes", "profile", "segments", "language"]

N_BASES = 4
COMPLEMENT = (3, 2, 1, 0)
"""What becomes of A, C, G, T on the other strand."""
_UNIT = 4 / 3**0.5  # a base known for certain, less N, has this size again as its features' root mean square


class ModelSettings(Settings):
    """Size of the network, its heads, and what it learnt from the training data before the first step."""

    heads: tuple[Head, ...] = ("classes",)
    """classes: of the whole window; profile: tracks along it; segments: a class of every base; language: hidden bases,
    or with is_causal the next one."""
    trunk: Literal["attention", "lstm", "conv", "none"] = "attention"
    """How signals travel between bins; the last two and the LSTM are there to be compared with."""
    bin: PositiveInt = Field(default=128, le=128)
    """Bases of a bin of the trunk; a power of 2."""
    width: PositiveInt = 256
    """Features of a bin."""
    stem: PositiveInt = 64
    """Features of the stem's finest cells; they grow to `width` level by level."""
    kernel: PositiveInt = 5
    """Cells that each convolution of stem, decoder and trunk sees; odd."""
    n_layers: PositiveInt = 6
    """Blocks of the trunk."""
    n_heads: PositiveInt = 8
    expansion: PositiveInt = 4
    """The feed-forward nets of the trunk are this many times wider inside."""
    attention: Literal["dot", "cosine"] = "dot"
    window: PositiveInt | None = None
    """Bins that a bin reads on either side, in each layer; None: all of them."""
    n_global: NonNegativeInt = 0
    """Learnt tokens that read every bin and are read by each; with a window."""
    is_gated: bool = True
    """Each branch of the attention trunk has a learnable factor that starts at 0, instead of a fixed scale."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """In the trunk."""
    keep: float = Field(default=1.0, gt=0, le=1)
    """Probability that the last block of the trunk is used in training (stochastic depth)."""
    t_max: PositiveInt | None = Field(default=3000, ge=3)
    """Longest memory, in bins, with which the LSTM's gates begin; None: all have bias `forget`."""
    forget: float = 1.0
    """Bias of the LSTM's forget gates where t_max is None; torch's own default acts like 0."""
    resolution: PositiveInt = 128
    """Bases of a cell of the profile: a power of 2 up to the bin, or a multiple of the bin."""
    pool: Literal["mean", "centre", "attention"] = "mean"
    """What `classes` reads: all bins, the one or two in the middle, or a learnt average."""
    strands: Literal["one", "average", "equivariant"] = "one"
    """one: as the window is given; average: of both strands' outputs, at twice the price; equivariant: weights by which
    they agree. Only for what the other strand says as well, up to the swaps."""
    swap_classes: tuple[NonNegativeInt, ...] = ()
    """Which class each becomes when the other strand is read, such as (1, 0); empty: itself."""
    swap_tracks: tuple[NonNegativeInt, ...] = ()
    swap_segments: tuple[NonNegativeInt, ...] = ()
    is_causal: bool = False
    """Nothing reads what lies ahead; the language head guesses each base from those before it."""
    checkpoints: bool = False
    """Activations inside blocks are computed again for the gradient instead of kept: less memory, a third more time."""
    profile_loss: Literal["poisson", "negative_binomial", "gaussian"] = "poisson"
    """Decides the profile's output map: counts are positive."""
    n_classes: NonNegativeInt = 0
    """Filled from the data, as are the following."""
    n_tracks: NonNegativeInt = 0
    n_segments: NonNegativeInt = 0
    track_means: tuple[float, ...] = ()
    """Of each track in the training data; the profile starts there."""
    track_scales: tuple[float, ...] = ()
    """Their standard deviations; of a Gaussian profile only."""

    @model_validator(mode="after")
    def _check(self) -> ModelSettings:
        if not self.heads or len(set(self.heads)) < len(self.heads):
            raise ValueError(f"heads are {self.heads}; expected at least one, each once")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}; expected an odd number of cells")
        self._check_resolutions()
        self._check_trunk()
        self._check_strands()
        return self

    def _check_resolutions(self) -> None:
        if not _is_power_of_2(self.bin):
            raise ValueError(f"bin is {self.bin}; expected a power of 2, 1 … 128")
        is_fine = self.resolution <= self.bin and _is_power_of_2(self.resolution)
        if "profile" in self.heads and not is_fine and self.resolution % self.bin:
            raise ValueError(
                f"resolution is {self.resolution} with bins of {self.bin}; expected a power of 2 up to the bin, or a "
                "multiple of the bin"
            )

    def _check_trunk(self) -> None:
        if self.trunk == "attention" and self.width % (2 * self.n_heads):
            raise ValueError(f"width is {self.width} with {self.n_heads} heads; expected a multiple of twice the heads")
        if self.trunk == "lstm" and self.width % 2:
            raise ValueError(f"width is {self.width}; expected an even one, half of it from each direction")
        if self.n_global and self.window is None:
            raise ValueError(f"n_global is {self.n_global} without a window; expected 0, since every bin reads all")
        if self.is_causal and self.n_global:
            raise ValueError(f"n_global is {self.n_global} with is_causal; expected 0, since tokens read the future")

    def _check_strands(self) -> None:
        if self.is_causal and self.strands != "one":
            raise ValueError(f"strands is '{self.strands}' with is_causal; the other strand reads the future")
        if self.strands == "equivariant" and (self.width % 2 or (self.trunk == "attention" and self.n_heads % 2)):
            raise ValueError(f"width {self.width}, n_heads {self.n_heads}; equivariant strands need even numbers")
        for name in ("swap_classes", "swap_tracks", "swap_segments"):
            swap = getattr(self, name)
            if any(not other < len(swap) or swap[other] != i for i, other in enumerate(swap)):
                raise ValueError(f"{name} is {swap}; expected pairs that become one another, such as (1, 0, 2)")

    @property
    def finest(self) -> int:
        """Bases of the smallest cells that a head reads."""
        if {"segments", "language"} & set(self.heads):
            return 1
        return min(self.resolution, self.bin) if "profile" in self.heads else self.bin


class GenomeModel(nn.Module):
    """Probabilities of the four bases to what each head says, before its temperature."""

    def __init__(self, settings: ModelSettings):
        super().__init__()
        s = self.settings = settings
        fine = s.resolution if "profile" in s.heads and s.resolution <= s.bin else None
        levels = levels_of(s.bin, s.finest, min(s.stem, s.width), s.width, fine)
        self.stem = Stem(levels, s.kernel)
        self.trunk = Trunk(s)
        self.decoder = Decoder(levels, s.finest, s.kernel, s.is_causal)
        read = {_resolution(head, s) for head in s.heads}
        widths = {level.resolution: level.width for level in levels}
        self.norm = nn.LayerNorm(s.width)
        self.norms = nn.ModuleDict({str(r): nn.LayerNorm(widths[r]) for r in sorted(read - {s.bin})})
        self.score = Projection(s.width, 1, bias=False) if s.pool == "attention" and "classes" in s.heads else None
        if self.score is not None:
            initialise(self.score, "linear")
        if s.strands == "equivariant":
            self._tie()
        if s.is_causal:
            make_causal(self)
        self.heads = nn.ModuleDict({head: _made(head, widths[_resolution(head, s)], s) for head in s.heads})
        self.log_dispersion = nn.Parameter(torch.zeros(s.n_tracks)) if _is_overdispersed(s) else None
        self.temperatures = nn.ModuleDict({name: Temperature() for name in calibrated_heads(s)})
        self.track_means: Tensor
        self.track_scales: Tensor
        self.register_buffer("track_means", _of_tracks(s.track_means, 1.0 if is_count(s) else 0.0, s), persistent=False)
        self.register_buffer("track_scales", _of_tracks(s.track_scales, 1.0, s), persistent=False)

    def _tie(self) -> None:
        for part in (self.stem, self.trunk, self.decoder, self.norms):
            tie(part)
        whole = nn.ModuleDict({"norm": self.norm})
        tie(whole)
        self.norm = whole["norm"]
        if self.score is not None:
            self.score = begun_head(self.settings.width, 1, [0])

    def forward(self, x: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        """What each head says, before its temperature.

        Args:
            x: [n, length, 4] probabilities of A, C, G, T; N is 1/4 each.
            lengths: [n] bases that count of each window, from its start; default all. What follows changes nothing:
                windows of one length go through the network together, each length by itself.
        Returns:
            classes [n, n_classes] logits; profile [n, length // resolution, n_tracks] means in the tracks' own unit;
            segments [n, length, n_segments] and language [n, length, 4] logits. Zeros beyond a window's length. Where a
            length is no multiple of the resolution, the profile leaves out its end; with both strands, both ends alike.
        """
        if x.ndim != 3 or x.shape[-1] != N_BASES or x.shape[1] == 0:
            raise ValueError(f"bases of shape {tuple(x.shape)}; expected [n, length ≥ 1, {N_BASES}] probabilities")
        if lengths is None:
            return self._said(x)
        if lengths.shape != x.shape[:1] or not 1 <= int(lengths.min()) <= int(lengths.max()) <= x.shape[1]:
            raise ValueError(f"lengths are {lengths.tolist()}; expected {len(x)} of 1 … {x.shape[1]}")
        said: dict[str, Tensor] = {}
        for length in lengths.unique().tolist():
            rows = (lengths == length).nonzero()[:, 0]
            for name, values in self._said(x[rows, :length]).items():
                if name not in said:
                    said[name] = self._empty(name, values, x)
                said[name] = _placed(said[name], rows, values, name == "classes")
        return said

    def _empty(self, name: str, values: Tensor, x: Tensor) -> Tensor:
        n_cells = x.shape[1] // (self.settings.resolution if name == "profile" else 1)
        return values.new_zeros(len(x), *(() if name == "classes" else (n_cells,)), values.shape[-1])

    def _said(self, x: Tensor) -> dict[str, Tensor]:
        s, n_missing = self.settings, -x.shape[1] % self.settings.bin
        if s.strands == "one":
            return self._laid(x, 0)
        if s.strands == "average":
            given, other = self._laid(x, n_missing // 2), self._laid(turned(x), n_missing // 2)
            return _mean(given, self.turned(other))
        # An odd number of N has one more of them before or behind: both, so that the strands see the same.
        starts = {n_missing // 2, n_missing - n_missing // 2}
        said = [self._laid(x, start) for start in starts]
        return said[0] if len(said) == 1 else _mean(*said)

    def _laid(self, x: Tensor, start: int) -> dict[str, Tensor]:
        """The outputs where `start` N come before the window, and behind it what it lacks to whole bins."""
        s, length = self.settings, x.shape[1]
        behind = -length % s.bin - start
        x = functional.pad((x - 1 / N_BASES) * _UNIT, (0, 0, start, behind))
        run = partial(checkpoint, use_reentrant=False) if s.checkpoints and torch.is_grad_enabled() else _run
        encodings = self.stem(x, run)
        bins = self.norm(self.trunk(encodings[-1], run))
        cells = self.decoder(bins, encodings, run)
        features = {r: self.norms[str(r)](x) if str(r) in self.norms else x for r, x in cells.items()}
        said = {}
        for name, head in self.heads.items():
            read = features[_resolution(name, s)]
            if name == "classes":
                said[name] = _full(head(self._pooled(read)))
            elif name == "profile":
                said[name] = self._profile(_full(head(self._binned(read, length))))
            else:
                read = read[:, start : start + length]
                said[name] = _full(head(_delayed(read) if name == "language" and s.is_causal else read))
        return said

    def _pooled(self, bins: Tensor) -> Tensor:
        """[n, n_bins, width] to [n, width]."""
        if self.settings.pool == "centre":
            n_bins = bins.shape[1]
            return bins[:, (n_bins - 1) // 2 : n_bins // 2 + 1].mean(1)
        if self.score is None:
            return bins.mean(1)
        return (self.score(bins).softmax(1) * bins).sum(1)

    def _binned(self, cells: Tensor, length: int) -> Tensor:
        """Cells of the trunk or the decoder to those of the profile: [n, length // resolution, width]."""
        s = self.settings
        n_cells, factor = length // s.resolution, max(1, s.resolution // s.bin)
        n_over = cells.shape[1] - n_cells * factor
        if s.strands == "one":
            inner = cells[:, : n_cells * factor]
        else:  # alike on both sides; half a cell each is the mean of two cells
            inner = (_from(cells, n_over // 2, n_cells * factor) + _from(cells, -(-n_over // 2), n_cells * factor)) / 2
        return inner if factor == 1 else inner.unflatten(1, (n_cells, factor)).mean(2)

    def _profile(self, x: Tensor) -> Tensor:
        if not is_count(self.settings):
            return self.track_means + self.track_scales * x
        # softplus(0) = log 2: divided by it, the rates start at the means.
        return self.track_means * functional.softplus(x) / torch.log(torch.tensor(2.0)).to(x)

    def turned(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the other strand must say of the same windows: positions in reverse, outputs swapped."""
        return turned_outputs(outputs, self.settings)

    def dispersions(self) -> Tensor:
        """[n_tracks] of a negative binomial profile: the variance is mean + dispersion · mean²."""
        assert self.log_dispersion is not None
        log = self.log_dispersion
        if self.settings.strands != "one":
            log = (log + log[_swap("profile", self.settings)]) / 2
        return log.exp()


def turned_outputs(outputs: dict[str, Tensor], settings: ModelSettings) -> dict[str, Tensor]:
    """What the other strand must say of the same windows: positions in reverse, outputs swapped."""
    return {
        name: (values if name == "classes" else values.flip(1))[..., _swap(name, settings)]
        for name, values in outputs.items()
    }


def calibrated_heads(s: ModelSettings) -> list[str]:
    """The names of the temperatures, one for each head that classifies."""
    named = {"classes": "class", "segments": "segment", "language": "base"}
    return [named[head] for head in s.heads if head in named]


def is_count(s: ModelSettings) -> bool:
    return s.profile_loss != "gaussian"


def n_outputs(head: str, s: ModelSettings) -> int:
    return {"classes": s.n_classes, "profile": s.n_tracks, "segments": s.n_segments, "language": N_BASES}[head]


def _made(head: Head, n_features: int, s: ModelSettings) -> nn.Module:
    n_out = n_outputs(head, s)
    if n_out == 0:
        raise ValueError(f"the head {head} has nothing to say: its number of outputs is 0; it is filled from the data")
    swap = _swap(head, s)
    if len(swap) != n_out:
        raise ValueError(f"the swap of {head} names {len(swap)} outputs; expected {n_out}")
    return begun_head(n_features, n_out, swap if s.strands == "equivariant" else None)


def _swap(head: str, s: ModelSettings) -> list[int]:
    swaps = {"classes": s.swap_classes, "profile": s.swap_tracks, "segments": s.swap_segments, "language": COMPLEMENT}
    return list(swaps[head] or range(n_outputs(head, s)))


def _resolution(head: str, s: ModelSettings) -> int:
    """Bases of the cells that a head reads."""
    return {"classes": s.bin, "profile": min(s.resolution, s.bin)}.get(head, 1)


def _is_overdispersed(s: ModelSettings) -> bool:
    return "profile" in s.heads and s.profile_loss == "negative_binomial"


def _of_tracks(values: tuple[float, ...], default: float, s: ModelSettings) -> Tensor:
    numbers = torch.tensor(values or (default,) * s.n_tracks)
    if len(numbers) != s.n_tracks:
        raise ValueError(f"{len(numbers)} means or scales of tracks; expected {s.n_tracks}, one for each")
    return numbers if s.strands == "one" or not s.n_tracks else (numbers + numbers[_swap("profile", s)]) / 2


def _placed(whole: Tensor, rows: Tensor, values: Tensor, is_pooled: bool) -> Tensor:
    if not is_pooled:
        values = functional.pad(values, (0, 0, 0, whole.shape[1] - values.shape[1]))
    return whole.index_copy(0, rows, values)


def _mean(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: (a[name] + b[name]) / 2 for name in a}


def _from(x: Tensor, start: int, n: int) -> Tensor:
    return x[:, start : start + n]


def _delayed(x: Tensor) -> Tensor:
    return torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1)


def _run(module: nn.Module, *inputs: Tensor) -> Tensor:
    return module(*inputs)


def _full(x: Tensor) -> Tensor:
    """In fp32 or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _is_power_of_2(n: int) -> bool:
    return n & (n - 1) == 0
