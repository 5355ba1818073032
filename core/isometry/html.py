"""Pieces of a page that needs nothing else: sections, tables and figures, on screen, in the dark and on paper."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any

from isometry.figures import data_uris
from isometry.report_style import STYLE
from isometry.spell import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def page(title: str, body: str) -> str:
    """A whole document; no browser fetches or runs anything for it."""
    # The policy makes the promise binding: no browser fetches or runs anything for this page.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


def section(heading: str, content: str) -> str:
    """Content under its heading; nothing for no content."""
    return f"<section><h2>{escape(heading)}</h2>\n{content}\n</section>" if content else ""


def gallery(figures: Iterable[tuple[str, str, Figure]], layout: str, first: int) -> str:
    """Figures with name and note, counted from `first`; layout "wide" or "pair"."""
    items = [_figure(name, note, figure, place) for place, (name, note, figure) in enumerate(figures, first)]
    return f"<div class={layout}>{''.join(items)}</div>" if items else ""


def _figure(name: str, note: str, figure: Figure, place: int) -> str:
    light, dark = data_uris(figure)
    width = round(figure.get_size_inches()[0] * 96)
    image = f'<img src="{light}" alt="{escape(name)}" width={width}>'
    if dark is None:
        picture = f"<div class=paper>{image}</div>"
    else:
        in_the_dark = f'<source media="screen and (prefers-color-scheme: dark)" srcset="{dark}">'
        picture = f"<picture>{in_the_dark}{image}</picture>"
    caption = f"<b>Figure {place}. {escape(name)}.</b> {escape(note)}"
    return f"<figure>{picture}<figcaption>{caption}</figcaption></figure>\n"


def table(rows: list[dict[str, Any]], columns: Iterable[str] = ()) -> str:
    """Rows under the union of their keys; a column of nothing but numbers is set to the right."""
    if not rows:
        return ""
    present = dict.fromkeys(name for row in rows for name in row)
    names = [name for name in columns if name in present] or list(present)
    kinds = {name: " class=n" if all(_is_number(row.get(name)) for row in rows) else "" for name in names}
    head = "".join(f"<th{kinds[name]}>{escape(name)}</th>" for name in names)
    body = "".join(
        f"<tr>{''.join(f'<td{kinds[name]}>{escape(_cell(row.get(name)))}</td>' for name in names)}</tr>\n"
        for row in rows
    )
    return f"<div class=scroll><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>"


def _cell(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else number(value)


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and (value is None or isinstance(value, int | float) or hasattr(value, "dtype"))
