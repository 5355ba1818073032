"""Mutual information from the distances to nearest neighbours: two continuous vectors, or a label and a vector.

No model and no training; good in few dimensions. In many, the neighbours are far and the estimate falls far below the
truth. Distances are the largest difference of any coordinate, so the units of coordinates within one vector matter:
scale them first. Of points that stand on a grid, as counts do, several are at the very distance of the k-th
neighbour, or at none: all of them count as neighbours, in the whole and in each part. Repeated points then give the
information of their table (Gao et al. 2017); where no two distances are equal this is Kraskov's and Ross's count.

Source: Kraskov, Stögbauer and Grassberger 2004, doi:10.1103/PhysRevE.69.066138, eq. 8; Ross 2014,
doi:10.1371/journal.pone.0087357; Gao, Kannan, Oh and Viswanath 2017, arXiv:1709.06212.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.spatial import KDTree
from scipy.spatial.distance import cdist
from scipy.special import digamma

from isometry.information.bits import NATS, Array

K = 10
TREE_COORDINATES = 4  # above, a tree is slower than all distances
BLOCK = 200  # rows of distances held at once
SAME = 1e-9  # distances that differ by this share are one: those of scaled counts are equal up to rounding


def ksg(x: ArrayLike, y: ArrayLike, k: int = K) -> float:
    """I(X; Y) in bits, of samples [n, n_x] and [n, n_y] ([n]: one coordinate). Below 0 by chance where I is near 0."""
    return float(ksg_terms(x, y, k).mean())


def ksg_terms(x: ArrayLike, y: ArrayLike, k: int = K) -> Array:
    """[n] each sample's part, bits; their mean is `ksg`."""
    _check_k(k)
    xs, ys = paired_samples(x, y, k + 1)
    n_neighbours, (near_x, near_y) = _neighbourhoods([xs, ys], np.arange(len(xs)), k)
    return (digamma(n_neighbours) - digamma(near_x) - digamma(near_y) + digamma(len(xs))) / NATS


def ross(labels: ArrayLike, y: ArrayLike, k: int = K) -> float:
    """I(label; Y) in bits, of n labels of any kind and samples [n, n_y] ([n]: one coordinate).

    A label of fewer than k + 1 samples takes as many neighbours as it has; one of a single sample is left out.
    """
    _check_k(k)
    names, ys = np.asarray(labels), samples(y, "y")
    if names.shape != (len(ys),):
        raise ValueError(f"labels and y need one row per sample each, found shapes {names.shape} and {ys.shape}")
    codes, counts = np.unique(names, return_inverse=True, return_counts=True)[1:]
    ys, codes = ys[counts[codes] > 1], codes[counts[codes] > 1]
    if not len(ys):
        raise ValueError("no label has two samples, expected several of each; are these measurements, not labels?")
    total = 0.0
    for code in np.unique(codes):
        own = np.flatnonzero(codes == code)
        n_neighbours, (near,) = _neighbourhoods([ys], own, min(k, len(own) - 1))
        total += (digamma(n_neighbours) - digamma(near) - digamma(len(own))).sum()
    return float(total / len(ys) + digamma(len(ys))) / NATS


def samples(values: ArrayLike, what: str) -> Array:
    """[n, n_coordinates] of float64. Raises ValueError where a value is not finite or the shape is another."""
    table = np.asarray(values, dtype=float)
    table = table[:, None] if table.ndim == 1 else table
    if table.ndim != 2 or 0 in table.shape:
        raise ValueError(f"{what} must be samples [n] or [n, n_coordinates], found shape {table.shape}")
    if not np.isfinite(table).all():
        row, column = np.argwhere(~np.isfinite(table))[0]
        found = f"{table[row, column]} in row {row}, column {column}"
        raise ValueError(f"{what} must be finite, found {found}; leave out or impute such samples")
    return table


def paired_samples(x: ArrayLike, y: ArrayLike, n_least: int) -> tuple[Array, Array]:
    """Both as `samples`. Raises ValueError where their lengths differ or are below n_least."""
    xs, ys = samples(x, "x"), samples(y, "y")
    if len(xs) != len(ys):
        raise ValueError(f"x and y must be of the same samples, found {len(xs)} and {len(ys)} rows")
    if len(xs) < n_least:
        raise ValueError(f"at least {n_least} samples are needed, found {len(xs)}")
    return xs, ys


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k, the number of neighbours, must be ≥ 1, found {k}")


def _neighbourhoods(parts: list[Array], own: Array, k: int) -> tuple[Array, list[Array]]:
    """Around each sample of `own`, out to its k-th neighbour among `own` in all parts together.

    Returns:
        [n_own] neighbours up to that distance: k, or more of them where several are at it; per part [n_own] how many
        of all samples are nearer, the sample itself counted; where several are at that distance, those up to it.
    """
    by_tree = sum(part.shape[1] for part in parts) <= TREE_COORDINATES
    return (_by_tree if by_tree else _by_blocks)(parts, own, k)


def _by_tree(parts: list[Array], own: Array, k: int) -> tuple[Array, list[Array]]:
    joint = np.hstack(parts)[own]
    radius = KDTree(joint).query(joint, k=k + 1, p=np.inf)[0][:, k]
    inside, radius = radius * (1 - SAME), radius * (1 + SAME)
    n_neighbours = np.maximum(_counted(joint, joint, radius) - 1, k)
    near = [
        np.maximum(_counted(part, part[own], inside) - (radius == 0), _counted(part, part[own], radius) - 1)
        for part in parts
    ]
    return n_neighbours, near


def _counted(points: Array, centres: Array, radius: Array) -> Array:
    """[n_centres] how many points are at most `radius` away."""
    return KDTree(points).query_ball_point(centres, radius, p=np.inf, return_length=True)


def _by_blocks(parts: list[Array], own: Array, k: int) -> tuple[Array, list[Array]]:
    n_neighbours, near = np.empty(len(own)), [np.empty(len(own)) for _ in parts]
    for start in range(0, len(own), BLOCK):
        rows = slice(start, start + BLOCK)
        distances = [cdist(part[own[rows]], part, "chebyshev") for part in parts]
        joint = np.max([distance[:, own] for distance in distances], axis=0)
        radius = np.partition(joint, k, axis=1)[:, [k]]
        inside, radius = radius * (1 - SAME), radius * (1 + SAME)
        n_neighbours[rows] = (joint <= radius).sum(1) - 1
        for i, distance in enumerate(distances):
            near[i][rows] = np.maximum((distance < inside).sum(1), (distance <= radius).sum(1) - 1)
    return n_neighbours, near
