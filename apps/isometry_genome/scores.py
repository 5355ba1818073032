"""Scores of all heads, from a row for each window: ranking and agreement of classes, correlation, bases and genes."""

from __future__ import annotations

from typing import Literal

import numpy as np

NO_LABEL = -1

DECIDES: dict[str, tuple[str, Literal["smaller", "larger"]]] = {
    "classes": ("auroc", "larger"),
    "profile": ("pearson", "larger"),
    "segments": ("base_f1", "larger"),
    "language": ("bits_per_base", "smaller"),
}
"""By the first head: the score that chooses the best weights."""


def score(rows: dict[str, np.ndarray]) -> dict[str, float]:
    """Named scores; a label that no window has gives none.

    auroc, auprc: of more than two classes, the mean over classes of one against the rest. pearson: mean over targets
    of the mean over sequences of the correlation along each; pearson_pooled: of all bins together. base_f1: of bases
    within something, by kind; gene_f1: of genes with both ends exact. bits_per_base: of the guessed bases.
    """
    scores: dict[str, float] = {}
    if "class_logits" in rows:
        scores |= class_scores(rows["class_logits"], rows["class_label"].astype(np.int64))
    if "profile" in rows:
        scores |= profile_scores(rows["profile"], rows["group"].astype(np.int64))
    if "segments" in rows:
        scores |= base_scores(rows["segments"].sum(0))
    if "genes" in rows:
        scores |= gene_scores(*rows["genes"].sum(0))
    if "language" in rows and rows["language"][:, 1].any():
        total, count = rows["language"].sum(0)
        scores["bits_per_base"] = float(total / count)
    return scores


# Classes


def class_scores(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Of [n, n_classes] and [n]; -1 does not count."""
    is_known = labels != NO_LABEL
    logits, labels = logits[is_known], labels[is_known]
    if not len(labels):
        return {}
    verdicts, n_classes = logits.argmax(1), logits.shape[1]
    scores = {"accuracy": float((verdicts == labels).mean()), "mcc": matthews(labels, verdicts, n_classes)}
    margins = _margins(logits)
    sides = [1] if n_classes == 2 else range(n_classes)
    both = [k for k in sides if 0 < (labels == k).sum() < len(labels)]
    if both:
        scores["auroc"] = float(np.mean([area_under_roc(margins[:, k], labels == k) for k in both]))
        scores["auprc"] = float(np.mean([average_precision(margins[:, k], labels == k) for k in both]))
    return scores


def _margins(logits: np.ndarray) -> np.ndarray:
    """Each class's logit beyond the log-sum of the others: monotone in its probability, and free of rounding to 1."""
    n_classes = logits.shape[1]
    others = [np.logaddexp.reduce(np.delete(logits, k, 1), axis=1) for k in range(n_classes)]
    return logits - np.stack(others, 1)


def area_under_roc(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """The probability that a positive ranks above a negative; a tie counts one half (Mann & Whitney 1947)."""
    from scipy.stats import rankdata

    n, m = int(is_positive.sum()), int((~is_positive).sum())
    return float((rankdata(scores)[is_positive].sum() - n * (n + 1) / 2) / (n * m))


def average_precision(scores: np.ndarray, is_positive: np.ndarray) -> float:
    """Σ (R_i - R_{i-1}) P_i over distinct thresholds, the area under precision and recall without interpolation."""
    order = np.argsort(-scores, kind="stable")
    hits = is_positive[order].cumsum()
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # of each group of ties
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def matthews(labels: np.ndarray, verdicts: np.ndarray, n_classes: int) -> float:
    """Correlation of verdict and truth, of any number of classes; 0 where either is constant (Gorodkin 2004, eq. 8)."""
    confusion = np.zeros((n_classes, n_classes))
    np.add.at(confusion, (labels, verdicts), 1)
    n, hits = confusion.sum(), np.trace(confusion)
    true, said = confusion.sum(1), confusion.sum(0)
    spread = (n**2 - (said**2).sum()) * (n**2 - (true**2).sum())
    return float((n * hits - said @ true) / np.sqrt(spread)) if spread > 0 else 0.0


# Profiles


def pearson(sums: np.ndarray) -> np.ndarray:
    """Correlations from [..., 6] sums of 1, x, y, x², y², xy; NaN where either side is constant."""
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = (n * xx - x * x) * (n * yy - y * y)
    is_constant = (n * xx - x * x <= 1e-12 * n * xx) | (n * yy - y * y <= 1e-12 * n * yy)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(is_constant, np.nan, (n * xy - x * y) / np.sqrt(spread))


def by_group(sums: np.ndarray, groups: np.ndarray) -> dict[int, np.ndarray]:
    """[tracks] correlations along each sequence."""
    return {int(group): pearson(sums[groups == group].sum(0)) for group in np.unique(groups)}


def profile_scores(sums: np.ndarray, groups: np.ndarray) -> dict[str, float]:
    """Of [n, targets, 6] sums of each window and the number of its sequence [n]."""
    apart = np.stack(list(by_group(sums, groups).values()))
    pooled = pearson(sums.sum(0))
    if np.isnan(apart).all() or np.isnan(pooled).all():
        return {"pearson": 0.0} if sums[..., 0].any() else {}
    return {"pearson": float(np.nanmean(apart)), "pearson_pooled": float(np.nanmean(pooled))}


# Bases and genes


def base_scores(confusion: np.ndarray) -> dict[str, float]:
    """Of [k, k] bases by label and verdict, whose first kind is nothing."""
    if not confusion.any():
        return {}
    hits = np.trace(confusion[1:, 1:])
    sides = confusion[1:].sum() + confusion[:, 1:].sum()
    return {
        "base_accuracy": float(np.trace(confusion) / confusion.sum()),
        "base_f1": float(2 * hits / sides) if sides else 0.0,
    }


def gene_scores(hits: float, n_true: float, n_found: float) -> dict[str, float]:
    """Of genes with both ends exact."""
    if not n_true:
        return {}
    return {
        "gene_f1": float(2 * hits / (n_true + n_found)),
        "gene_recall": float(hits / n_true),
        "gene_precision": float(hits / max(n_found, 1)),
    }
