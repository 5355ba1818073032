"""How far a network reads, from how it is built: what windows must overlap by for their cuts not to show."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from isometry_genome.dataset import Place
from isometry_genome.elements import DILATIONS
from isometry_genome.model import SITE_CELL, GenomeModel
from isometry_genome.sites import MARGIN
from isometry_genome.stem import BASE_KERNEL
from isometry_genome.windows import Plan

_log = logging.getLogger(__name__)


def reach(model: GenomeModel, sight: int | None = None) -> int | None:
    """Bases on either side of a cell, at most, that change what is said of it; None: all of the window.

    Args:
        sight: how far away the trunk reads elements, if it does.
    """
    s, levels = model.settings, model.decoder.levels
    trunk = {"conv": s.kernel // 2 * (2**s.n_layers - 1), "attention": s.n_layers * (s.window or 0)}
    reads_all = s.trunk == "lstm" or (s.trunk == "attention" and (s.window is None or s.n_global))
    if reads_all or (model.elements is not None and sight is None):
        return None
    first = levels[0].resolution
    entrance = SITE_CELL + 2 * MARGIN if s.entrance == "sites" else BASE_KERNEL // 2 if first == 1 else 3 * first // 2
    in_stem = sum(level.resolution for level in levels)
    in_decoder = sum(levels[i].resolution for i in model.decoder.steps)
    local = entrance + s.kernel // 2 * (in_stem + in_decoder) + s.bin
    if model.elements is not None:
        local += (sight or 0) + s.kernel // 2 * sum(DILATIONS) * s.resolution
    return (2 if s.is_causal else 1) * (local + trunk.get(s.trunk, 0) * s.bin)


def tell_reach(model: GenomeModel, places: Iterable[Place], plan: Plan) -> None:
    """Where windows overlap by less than the network reads, a note: what is said depends on where they are cut."""
    far = reach(model, plan.sight)
    if (far is None or far > plan.margin) and any(plan.n_windows(p.end - p.start) > 1 for p in places):
        _log.warning(
            "windows of %s bases overlap, and %s at either end are not believed, but the network reads %s: what is "
            "said depends somewhat on where windows are cut",
            f"{plan.length:,}", f"{plan.margin:,}", "all of a window" if far is None else f"{far:,} to either side",
        )  # fmt: skip
