"""The checkpoint that is shipped tells promoters from the same letters in another order, and knows its windows."""

from pathlib import Path

import pytest
from isometry import story
from isometry_genome.train import APP

ROOT = Path(__file__).parents[3]
LARGEST = 2 * 2**20  # bytes


def test_the_shipped_network_finds_boxes_where_they_belong_and_not_their_letters_shuffled(tmp_path):
    loaded = story.load(APP, "promoters", device="cpu")
    rows = story.predict(loaded, [ROOT / "examples" / "promoters.fa"], tmp_path / "out.csv")
    given = [row for row in rows if row["strand"] == "+"]
    assert [row["class"] for row in given] == ["promoter", "no promoter"] * 3
    for row in given:
        assert row["p_promoter"] + row["p_no promoter"] == pytest.approx(1, abs=1e-6)
        assert row["p_promoter"] > 0.9 or row["p_promoter"] < 0.2


def test_the_shipped_network_asks_for_windows_of_its_length_and_takes_little_room():
    loaded = story.load(APP, "promoters", device="cpu")
    assert loaded.settings.model.length == loaded.settings.data.length == 81
    folder = ROOT / "apps" / "isometry_genome" / "checkpoints" / "promoters"
    assert sum(file.stat().st_size for file in folder.iterdir()) < LARGEST
