"""The network: a stem from bases to bins, a trunk that carries signals between bins, and any subset of heads.

Lengths are free, from one base to as many as memory holds: what a window lacks to whole bins is filled with N.
"""

from __future__ import annotations

from typing import Literal

import torch
from isometry.attention import Rotary
from isometry.calibrate import Temperature
from isometry.settings import Settings
from pydantic import Field, NonNegativeInt, PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from isometry_genome.convolution import delayed
from isometry_genome.elements import Elements
from isometry_genome.heads import N_BASES, Tracks, head_of, pool_of, resolution_of, swap_of
from isometry_genome.levels import levels_of
from isometry_genome.pointwise import quicken
from isometry_genome.positions import Positions
from isometry_genome.sites import Sites
from isometry_genome.stem import Decoder, Stem, make_causal
from isometry_genome.strands import tie, turned
from isometry_genome.trunk import Trunk

Head = Literal["classes", "profile", "segments", "language"]

SITE_CELL = 64
SHARES = 0  # among cells by their size, what the stem says of elements
_UNIT = 4 / 3**0.5  # a base known for certain, less N, has this size again as its features' root mean square


class ModelSettings(Settings):
    """Size of the network, its heads, and what it learnt from the training data before the first step."""

    heads: tuple[Head, ...] = ("classes",)
    """classes: of the whole window; profile: tracks along it; segments: a class of every base; language: hidden bases,
    or with is_causal the next one."""
    trunk: Literal["attention", "lstm", "conv", "none"] = "attention"
    """How signals travel between bins; the last two and the LSTM are there to be compared with."""
    bin: PositiveInt = Field(default=128, le=1024)
    """Bases of a bin of the trunk: a power of 2, or thrice one, so that reading frames lie alike in all bins."""
    width: PositiveInt = 256
    """Features of a bin."""
    stem: PositiveInt = 64
    """Features of the stem's finest cells; they grow to `width` level by level."""
    entrance: Literal["learnt", "sites"] = "learnt"
    """What the stem begins with: convolutions over bases, or sites of published motifs of yeast in cells of 64."""
    reads: Literal["features", "elements"] = "features"
    """elements: the trunk reads what the stem says of the tracks that are shares of cells, spread over distances, and
    nothing else; it has bins of its own, no smaller than the profile's, and the profile is its only head."""
    kernel: PositiveInt = 5
    """Cells that each convolution of stem, decoder and trunk sees; odd."""
    n_layers: PositiveInt = 6
    """Blocks of the trunk."""
    n_heads: PositiveInt = 8
    expansion: PositiveInt = 4
    """The feed-forward nets of the trunk are this many times wider inside."""
    attention: Literal["dot", "cosine"] = "dot"
    is_sharpened: bool = False
    """What the softmax of attention sees grows with the logarithm of the number of bins."""
    is_stretched: bool = False
    """At a level of a curriculum bins count as 1 / level bins: a distance looks as the whole task's does."""
    window: PositiveInt | None = None
    """Bins that a bin reads on either side, in each layer; None: all of them."""
    n_global: NonNegativeInt = 0
    """Learnt tokens that read every bin and are read by each; with a window."""
    is_gated: bool = True
    """Each branch of the attention trunk has a learnable factor that starts at 0, instead of a fixed scale."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """In the trunk: of the feed-forward nets, the convolutions, and what the LSTM reads; never of attention weights."""
    keep: float = Field(default=1.0, gt=0, le=1)
    """Probability that the last block of the trunk is used in training (stochastic depth)."""
    t_max: PositiveInt | None = Field(default=3000, ge=3)
    """Longest memory, in bins, with which the LSTM's gates begin; None: all have bias `forget`."""
    forget: float = 1.0
    """Bias of the LSTM's forget gates where t_max is None; torch's own default acts like 0."""
    resolution: PositiveInt = 128
    """Bases of a cell of the profile: the bin, its half, quarter, …, or a multiple of the bin."""
    pool: Literal["mean", "centre", "attention", "positions"] = "mean"
    """What `classes` reads: all bins, the one or two in the middle, a learnt average, or each bin with weights of its
    own, for windows of one length that are aligned at what they are about."""
    rank: PositiveInt = 32
    """positions: features of a bin that are read."""
    neighbours: PositiveInt = 4
    """positions: so many bins count as one, by the largest of each feature."""
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
    length: NonNegativeInt = 0
    """Bases of a window, where positions are read."""
    n_tracks: NonNegativeInt = 0
    n_segments: NonNegativeInt = 0
    n_shares: NonNegativeInt = 0
    """Tracks that are shares of cells, the last ones."""
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
        self._check_elements()
        return self

    def _check_resolutions(self) -> None:
        if not _is_power_of_2(self.bin) and (self.bin % 3 or not _is_power_of_2(self.bin // 3)):
            raise ValueError(f"bin is {self.bin}; expected a power of 2, or thrice one, 1 … 1024")
        is_part = self.bin % self.resolution == 0 and _is_power_of_2(self.bin // self.resolution)
        if "profile" in self.heads and not is_part and self.resolution % self.bin:
            raise ValueError(
                f"resolution is {self.resolution} with bins of {self.bin}; expected a half, a quarter, … or a multiple "
                "of the bin"
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
        if self.strands == "equivariant" and self.pool == "positions" and self.rank % 2:
            raise ValueError(f"rank is {self.rank}; equivariant strands need an even number")
        for name in ("swap_classes", "swap_tracks", "swap_segments"):
            swap = getattr(self, name)
            if any(not other < len(swap) or swap[other] != i for i, other in enumerate(swap)):
                raise ValueError(f"{name} is {swap}; expected pairs that become one another, such as (1, 0, 2)")

    def _check_elements(self) -> None:
        if self.entrance == "sites" and (self.finest % SITE_CELL or self.is_causal):
            raise ValueError(f"sites are told of {SITE_CELL} bases, both ways; no head may ask for less, or be causal")
        if self.reads == "elements" and (self.heads != ("profile",) or self.bin % self.resolution):
            raise ValueError(
                f"heads are {self.heads}, bins {self.bin}, resolution {self.resolution}; expected the profile alone, "
                "and whole cells in a bin, where the trunk reads elements"
            )

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
        cell = s.resolution if s.reads == "elements" else s.bin
        self.sites = Sites(SITE_CELL, _UNIT) if s.entrance == "sites" else None
        levels = levels_of(cell, s.finest, min(s.stem, s.width), s.width, fine, self.sites and self.sites.size)
        widths = {level.resolution: level.width for level in levels} | {s.bin: s.width}
        self.stem = Stem(levels, s.kernel, self.sites and self.sites.n_features)
        self.trunk = Trunk(s)
        self.decoder = Decoder(levels, s.finest, s.kernel, s.is_causal)
        of_head = {head: s.bin if s.reads == "elements" else resolution_of(head, s) for head in s.heads}
        # Of the bins, which the decoder reads, too, and of the finer cells that a head reads.
        read = {s.bin} | set(of_head.values())
        self.norms = nn.ModuleDict({str(r): nn.LayerNorm(widths[r]) for r in sorted(read)})
        if s.strands == "equivariant":
            tie(self)
        if s.is_causal:
            make_causal(self)
        quicken(self)
        self.elements = (
            Elements(s, swap_of("profile", s), self.sites and self.sites.n_features) if s.reads == "elements" else None
        )
        self.heads = nn.ModuleDict({head: head_of(head, widths[of_head[head]], s) for head in s.heads})
        self.pool = pool_of(s) if "classes" in s.heads else None
        self.tracks = Tracks(s) if "profile" in s.heads else None
        self.temperatures = nn.ModuleDict({name: Temperature() for name in calibrated_heads(s)})

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
        groups = [(lengths == length).nonzero()[:, 0] for length in lengths.unique()]
        said = [self._said(x[rows, : int(lengths[rows[0]])]) for rows in groups]
        order = torch.cat(groups).argsort()
        return {name: torch.cat(self._to_one_length([part[name] for part in said], name, x))[order] for name in said[0]}

    def _to_one_length(self, parts: list[Tensor], name: str, x: Tensor) -> list[Tensor]:
        if name == "classes":
            return parts
        n_cells = x.shape[1] // (self.settings.resolution if name == "profile" else 1)
        return [functional.pad(part, (0, 0, 0, n_cells - part.shape[1])) for part in parts]

    def set_level(self, level: float) -> None:
        """Of a curriculum whose levels are shares of the whole task's distances."""
        for module in self.modules():
            if isinstance(module, Rotary) and self.settings.is_stretched:
                module.stretch = 1 / level

    def _said(self, x: Tensor) -> dict[str, Tensor]:
        s, n_missing = self.settings, -x.shape[1] % self.settings.bin
        if isinstance(self.pool, Positions):
            self.pool.check(x.shape[1])
        if s.strands == "one":
            return self._laid(x, 0)
        if s.strands == "average":
            given, other = self._laid(x, n_missing // 2), self._laid(turned(x), n_missing // 2)
            return _mean(given, turned_outputs(other, s))
        # Of an odd number of N one more comes before or behind: both, so that the strands see the same.
        given = self._laid(x, n_missing // 2)
        return _mean(given, self._laid(x, n_missing - n_missing // 2)) if n_missing % 2 else given

    def _laid(self, x: Tensor, start: int) -> dict[str, Tensor]:
        """The outputs where `start` N come before the window, and behind it what it lacks to whole bins."""
        length = x.shape[1]
        behind = -length % self.settings.bin - start
        cells = self._encode(functional.pad((x - 1 / N_BASES) * _UNIT, (0, 0, start, behind)))
        said = {}
        for name, head in self.heads.items():
            read = cells[resolution_of(name, self.settings)]
            if name == "classes":
                assert self.pool is not None
                said[name] = _full(head(self.pool(read)))
            elif name == "profile":
                assert self.tracks is not None
                profile = self.tracks(_full(head(self._binned(read, length))))
                shares = [_full(self._binned(cells[SHARES], length))] if SHARES in cells else []
                said[name] = torch.cat([profile, *shares], -1)
            else:
                read = read[:, start : start + length]
                said[name] = _full(head(delayed(read) if name == "language" and self.settings.is_causal else read))
        return said

    def _encode(self, x: Tensor) -> dict[int, Tensor]:
        """Whole bins of bases, N as zeros, to features by the size of their cells."""
        run = _kept if not self.settings.checkpoints or not torch.is_grad_enabled() else _made_again
        found = x if self.sites is None else self.sites(x)
        encodings = self.stem(found, run)
        of_bins = self.norms[str(self.settings.bin)]
        if self.elements is not None:
            s = self.settings
            shares, bins = self.elements(encodings[-1], found, x)  # once: it counts what it reads
            said = of_bins(self.trunk(bins, run)).repeat_interleave(s.bin // s.resolution, 1)
            return {SHARES: shares, s.resolution: said}
        cells = self.decoder(of_bins(self.trunk(encodings[-1], run)), encodings, run)
        return {
            r: x if r == self.settings.bin else self.norms[str(r)](x) for r, x in cells.items() if str(r) in self.norms
        }

    def _binned(self, cells: Tensor, length: int) -> Tensor:
        """Cells of the trunk or the decoder to those of the profile: [n, length // resolution, width]."""
        s = self.settings
        n_cells, factor = length // s.resolution, max(1, s.resolution // s.bin)
        n_read = n_cells * factor
        n_over = cells.shape[1] - n_read
        if s.strands == "one":
            read = cells[:, :n_read]
        else:  # as many on both sides; half a cell more or less is the mean of two cells
            first, last = n_over // 2, n_over - n_over // 2
            read = (cells[:, first : first + n_read] + cells[:, last : last + n_read]) / 2
        return read if factor == 1 else read.unflatten(1, (n_cells, factor)).mean(2)

    @property
    def track_means(self) -> Tensor:
        """[n_tracks], at which the profile starts."""
        assert self.tracks is not None
        return self.tracks.means

    @property
    def track_scales(self) -> Tensor:
        """[n_tracks], in which a Gaussian profile counts."""
        assert self.tracks is not None
        return self.tracks.scales

    def dispersions(self) -> Tensor:
        """[n_tracks] of a negative binomial profile: the variance is mean + dispersion · mean²."""
        assert self.tracks is not None
        return self.tracks.dispersions()


def turned_outputs(outputs: dict[str, Tensor], settings: ModelSettings) -> dict[str, Tensor]:
    """What the other strand must say of the same windows: positions in reverse, outputs swapped."""
    return {
        name: (values if name == "classes" else values.flip(1))[..., swap_of(name, settings)]
        for name, values in outputs.items()
    }


def calibrated_heads(s: ModelSettings) -> list[str]:
    """The names of the temperatures, one for each head that classifies."""
    named = {"classes": "class", "segments": "segment", "language": "base"}
    return [named[head] for head in s.heads if head in named]


def _mean(a: dict[str, Tensor], b: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: (a[name] + b[name]) / 2 for name in a}


def _kept(module: nn.Module, *inputs: Tensor) -> Tensor:
    return module(*inputs)


def _made_again(module: nn.Module, *inputs: Tensor) -> Tensor:
    out = checkpoint(module, *inputs, use_reentrant=False)
    assert isinstance(out, Tensor)
    return out


def _full(x: Tensor) -> Tensor:
    """In fp32 or better."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _is_power_of_2(n: int) -> bool:
    return n & (n - 1) == 0
