"""Sites of published motifs, cell by cell: how a genome is read that is too small to learn its motifs from.

Nothing here is learnt. Motifs are those of yeast: what its origins, centromeres, telomeres and promoters are made of.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from isometry_genome.grammar import BASES, IUPAC

BACKGROUND = (0.31, 0.19, 0.19, 0.31)
"""Frequencies of A, C, G, T in yeast."""
FIDELITY = 0.85
"""Share of the bases that the consensus allows, at each position."""
CHUNK = 8192
"""Bases that are read at once: what is computed of them stays in the processor's cache."""

LEAST = -20.0
"""Log-odds where nothing can stand."""
MARGIN = 128
"""Bases beyond those, in which what stands before a site may lie."""


class Site(NamedTuple):
    """A published motif, and what stands before it."""

    consensus: str
    source: str
    run: int = 0
    """Bases before it that are A or T."""
    lead: str = ""
    """A second motif that ends some bases before it, by `gaps`."""
    gaps: tuple[int, int] = (0, 0)
    threshold: float = 0.0
    """Below these log-odds, nats, a cell has no site."""


_FACTORS = "MacIsaac et al. 2006, BMC Bioinformatics 7, 113"
SITES = (
    Site("WTTTAYRTTTW", "origins: Broach et al. 1983, Cold Spring Harb. Symp. 47, 1165"),
    Site("WWWWTTTAYRTTTWGTT", "origins: Theis & Newlon 1997, PNAS 94, 10786"),
    Site("TTTGATTTCCGAAA", "centromeres: Hieter et al. 1985, Cell 42, 913", 70, "RTCACRTG", (74, 94), 12.0),
    Site("GTGTGGGTGTG", "telomeres: Shampay et al. 1984, Nature 310, 154"),
    Site("GGTTCRANNC", "tRNA, box B: Galli et al. 1981, Nature 294, 626"),
    Site("TATAWAWR", "promoters: Basehoar et al. 2004, Cell 116, 699"),
    Site("RTAAAYAA", f"Fkh1: {_FACTORS}"),
    Site("RTCRYNNNNNACG", f"Abf1: {_FACTORS}"),
    Site("TTACCCG", f"Reb1: {_FACTORS}"),
    Site("CCYNNNNRGG", f"Mcm1: {_FACTORS}"),
    Site("AAAAAAAAAA", "free of nucleosomes: Iyer & Struhl 1995, EMBO J. 14, 2570"),
)
_HALF_OF_PAIRS = [k for k in range(16) if k <= 4 * (3 - k % 4) + 3 - k // 4]  # one of each pair and its complement


def log_odds(consensus: str) -> Tensor:
    """[n, 4] nats by which a base is likelier in the motif than in the genome."""
    allowed = torch.tensor([[base in IUPAC[letter] for base in BASES] for letter in consensus], dtype=torch.float64)
    n = allowed.sum(1, keepdim=True)
    share = torch.where(allowed > 0, FIDELITY / n, (1 - FIDELITY) / (4 - n).clamp(min=1))
    return torch.where(n < 4, (share / torch.tensor(BACKGROUND)).log(), torch.zeros(()))


class Sites(nn.Module):
    """Features of cells: the log-odds that a site of each motif lies there, on each strand, and pairs of bases.

    The other strand reverses the order of the features.

    Args:
        size: bases of a cell; it divides `CHUNK`.
        unit: size of a base known for certain, less N, as the network is given it.
    """

    def __init__(self, size: int, unit: float):
        super().__init__()
        self.size, self.unit = size, unit
        self.kernel = max(len(m) for site in SITES for m in (site.consensus, site.lead)) | 1
        self.leads = [i for i, site in enumerate(SITES) if site.lead]
        self.n_features = 2 * (len(SITES) + len(_HALF_OF_PAIRS))
        motifs = [site.consensus for site in SITES] + [SITES[i].lead for i in self.leads] + ["W"]
        self.weights: Tensor
        self.register_buffer("weights", self._laid_out(motifs), persistent=False)

    def _laid_out(self, motifs: list[str]) -> Tensor:
        """[2 strands, motifs, kernel, 4] log-odds, each motif in the middle."""
        own = torch.zeros(len(motifs), self.kernel, 4)
        for row, motif in zip(own, motifs, strict=True):
            start = self._start(motif)
            row[start : start + len(motif)] = log_odds(motif)
        return torch.stack([own, own.flip(1, 2)])

    def _start(self, motif: str) -> int:
        return (self.kernel - len(motif)) // 2

    def forward(self, x: Tensor) -> Tensor:
        """[n, length, 4] in `unit`, N as zeros, to [n, length / size, n_features]; in single precision at least, since
        no half has the likelihood ratio of a long site."""
        with torch.autocast(x.device.type, enabled=False):
            return self._read(x)

    def _read(self, x: Tensor) -> Tensor:
        bases = x / self.unit + 0.25
        beyond = self.kernel // 2 + MARGIN
        padded = functional.pad(bases, (0, 0, beyond, beyond), value=0.25).transpose(1, 2)
        pieces = [padded[..., start : start + CHUNK + 2 * beyond] for start in range(0, x.shape[1], CHUNK)]
        ahead, back = (torch.cat(parts, 1) for parts in zip(*(self._found(piece) for piece in pieces), strict=True))
        pairs = self._pairs(bases)
        return torch.cat([ahead, pairs[..., 0], pairs[..., 1].flip(-1), back.flip(-1)], -1)

    def _found(self, bases: Tensor) -> list[Tensor]:
        """[n, 4, length] of a piece to [n, cells, sites] of the strand given and of the other."""
        weights = self.weights.to(bases.dtype).flatten(0, 1).transpose(1, 2)
        ahead, back = functional.conv1d(bases.contiguous(), weights).chunk(2, 1)
        both = self._with_company(ahead), self._with_company(back.flip(2)).flip(2)
        threshold = torch.tensor([site.threshold for site in SITES], dtype=bases.dtype, device=bases.device)
        return [0.3 * functional.softplus(self._of_cells(scores) - threshold) for scores in both]

    def _with_company(self, scores: Tensor) -> Tensor:
        """[n, motifs, length] to scores of sites with those of what stands before them, [n, sites, length]."""
        found = list(scores[:, : len(SITES)].unbind(1))
        letters = scores[:, -1:]
        for row, i in enumerate(self.leads):
            site, lead = SITES[i], scores[:, len(SITES) + row : len(SITES) + row + 1]
            # Scores stand at middles of kernels: from that of the site back to that of the lead.
            back = self._start(site.lead) - self._start(site.consensus) + len(site.lead)
            run = _before(letters, site.run, self.kernel // 2 - self._start(site.consensus))
            found[i] = found[i] + run + _best_before(lead, site.gaps[0] + back, site.gaps[1] + back)
        return torch.stack(found, 1)

    def _of_cells(self, scores: Tensor) -> Tensor:
        """[n, sites, length] of a piece to logarithms of mean likelihood ratios, [n, cells, sites]."""
        inner = scores[..., MARGIN:-MARGIN].unflatten(2, (-1, self.size))
        return inner.exp().mean(3).add(1e-30).log().transpose(1, 2)  # below is no site

    def _pairs(self, bases: Tensor) -> Tensor:
        """[n, cells, 10, 2] how often each pair of bases comes in a cell, and its reverse complement."""
        cells = bases.unflatten(1, (-1, self.size))
        counts = (cells[:, :, :-1].transpose(2, 3) @ cells[:, :, 1:]).flatten(2) / (self.size - 1)
        both = [_HALF_OF_PAIRS, [4 * (3 - k % 4) + 3 - k // 4 for k in _HALF_OF_PAIRS]]
        return 12 * (torch.stack([counts[..., rows] for rows in both], -1) - 1 / 16)


def _before(values: Tensor, n: int, distance: int) -> Tensor:
    """[n, length] of [n, 1, length]: the sum of the `n` values that end `distance` before each place."""
    padded = functional.pad(values, (n + distance, 0))
    return n * functional.avg_pool1d(padded, n, 1)[:, 0, : values.shape[2]]


def _best_before(values: Tensor, first: int, last: int) -> Tensor:
    """[n, length] of [n, 1, length]: the largest value `first` to `last` before each place."""
    padded = functional.pad(values, (last, 0), value=LEAST)
    return functional.max_pool1d(padded, last - first + 1, 1)[:, 0, : values.shape[2]]
