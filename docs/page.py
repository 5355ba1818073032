"""The pages of this folder: their scripts put tables between two marks, and leave all else as it stands."""

from __future__ import annotations

from pathlib import Path

from isometry.durable import write_whole


def fill(page: Path, text: str, name: str = "table") -> None:
    """Put text between `<!-- name: begin -->` and `<!-- name: end -->`.

    Raises:
        ValueError: the page has not both marks, once each and in this order.
    """
    whole = page.read_text(encoding="utf-8")
    begin, end = (f"<!-- {name}: {edge} -->" for edge in ("begin", "end"))
    if whole.count(begin) != 1 or whole.count(end) != 1 or whole.index(end) < whole.index(begin):
        raise ValueError(f"{page}: expected one {begin} and behind it one {end}; write both where the table belongs")
    before, after = whole.partition(begin)[0], whole.partition(end)[2]
    write_whole(page, f"{before}{begin}\n{text}\n{end}{after}".encode())
