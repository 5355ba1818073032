"""An examination as one HTML page that needs nothing else."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isometry.doctor.plots import plots
from isometry.doctor.telling import headline, layer_rows, whole
from isometry.durable import write_whole
from isometry.html import gallery, page, section, table

if TYPE_CHECKING:
    from isometry.doctor.examination import Examination


def write_page(path: Path, found: Examination) -> Path:
    """Written whole or not at all; returns `path`."""
    title = f"Examination of {found.network}"
    measures = [{"measure": name, "value": value} for name, value in whole(found)]
    missing = [{"measure": name, "why it is missing": reason} for name, reason in found.missing.items()]
    body = "\n".join(
        [
            f"<header><h1>{escape(title)}</h1><p>{escape(headline(found))}</p></header>",
            section("Findings", table(_findings(found)) or "<p>Nothing was found that stands against training.</p>"),
            section("The network as a whole", table(measures) + table(missing)),
            section("Layer by layer", gallery(plots(found), "pair", 1)),
            section("Layers", table(layer_rows(found))),
        ]
    )
    write_whole(path, page(title, body))
    return path


def _findings(found: Examination) -> list[dict[str, Any]]:
    return [
        {
            "severity": finding.severity,
            "finding": finding.name,
            "where": finding.where,
            "reason": finding.reason,
            "remedy": finding.remedy,
        }
        for finding in found.findings
    ]
