"""Claims about what the scripts of docs/ write into their pages."""

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "docs" / "page.py"
PAGE = "# Title\n\n<!-- table: begin -->\nold\n<!-- table: end -->\nfoot\n<!-- other: begin -->\n<!-- other: end -->\n"


def fill(*arguments):
    spec = importlib.util.spec_from_file_location("page", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.fill(*arguments)


def test_a_table_replaces_what_stood_between_its_marks_and_nothing_else(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for _ in range(2):
        fill(page, "| β |")
    assert page.read_text() == PAGE.replace("old", "| β |")
    fill(page, "more", "other")
    assert page.read_text() == PAGE.replace("old", "| β |").replace("<!-- other: end", "more\n<!-- other: end")


@pytest.mark.parametrize("lost", ["<!-- table: begin -->", "<!-- table: end -->"])
def test_a_page_without_its_marks_is_left_as_it_is(tmp_path, lost):
    page = tmp_path / "page.md"
    page.write_text(PAGE.replace(lost, ""))
    with pytest.raises(ValueError, match="expected one <!-- table: begin -->"):
        fill(page, "new")
    assert page.read_text() == PAGE.replace(lost, "")
