"""docs/genome_variants.py on made-up files: a known effect has the score it must have, and no fold knows another's
positions. The files are in the format of the real ones, which are not here."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from isometry_data.catalogue import datasets

SCRIPT = Path(__file__).parents[3] / "docs" / "genome_variants.py"
OFFSET = 1000  # of the region's first base, counted from 0
EXON, GAP, N_EXONS = 30, 200, 10
PERFECT = 1e-9
LEARNT = 0.9
LEARNT_BY_FEW = 0.8


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("genome_variants", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def is_lost(reference, alternative, _position):
    """What an alternative T does."""
    return alternative == "T"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    def located(name, file=None):
        return tmp_path / Path(datasets()[name].file(file).path).name.removesuffix(".gz")

    monkeypatch.setattr("isometry_data.genome_sets.locate", located)
    written(located)
    return located


def written(located, effect=is_lost):
    rng = np.random.default_rng(0)
    region = "".join(rng.choice(list("ACGT"), N_EXONS * (EXON + GAP)))
    located("brca1", "region").write_text(f">chr17:{OFFSET + 1}-{OFFSET + len(region)}\n{region}\n")
    lines = ["chrom,pos_hg38_1based,ref,alt,consequence,score,func_class,CADD,phyloP,clinvar"]
    for position in (e * (EXON + GAP) + i for e in range(N_EXONS) for i in range(EXON)):
        for alternative in sorted(set("ACGT") - {region[position]}):
            lost = effect(region[position], alternative, position)
            told = f"missense,{-2.0 * lost},{'LOF' if lost else 'FUNC'},{10.0 + lost},{1.0 - lost},absent"
            lines.append(f"chr17,{OFFSET + position + 1},{region[position]},{alternative},{told}")
    located("brca1", "variants").write_text("\n".join(lines) + "\n")

    names, text, lines = ("E1", "E2"), "", ["element,chrom,pos_hg19_1based,ref,alt,index0,log2_effect,confidence,cls"]
    for name in names:
        element = "".join(rng.choice(list("ACGT"), 60))
        text += f">{name}\n{element}\n"
        for position, base in enumerate(element):
            for alternative in sorted(set("ACGT") - {base}):
                lost = effect(base, alternative, position)
                lines.append(
                    f"{name},X,{501 + position},{base},{alternative},{position},{-1.5 * lost},0.9,{-int(lost)}"
                )
    located("cagi5", "elements").write_text(text)
    located("cagi5", "variants").write_text("\n".join(lines) + "\n")


def rows_of(script):
    return {(row["set"], row["what"].partition(",")[0]): row for row in script.tables(0, Path())}


# Folds


def test_no_fold_has_a_position_of_another(script, folder):
    for measured in script.regions().values():
        for own in measured:
            folds = {}
            for variant, fold in zip(own.saturation.variants, own.folds.tolist(), strict=True):
                folds.setdefault(variant.position, set()).add(fold)
            assert all(len(of) == 1 for of in folds.values())
            assert set.union(*folds.values()) == set(range(script.N_FOLDS))
            sizes = np.bincount(own.folds)
            assert sizes.max() - sizes.min() <= 3


def test_folds_of_brca1_are_whole_exons_and_those_of_elements_are_stretches(script, folder):
    (own,) = script.regions()["BRCA1"]
    exons = np.array([variant.position for variant in own.saturation.variants]) // (EXON + GAP)
    np.testing.assert_array_equal(own.folds, exons % script.N_FOLDS)
    for element in script.regions()["CAGI5"]:
        assert (np.diff(element.folds) >= 0).all()  # as the positions, which are sorted


@pytest.mark.parametrize("name", ["BRCA1", "CAGI5"])
def test_what_a_network_trains_on_has_no_position_that_validates_or_tests(script, folder, name):
    measured = script.regions()[name]
    at = [
        (own.saturation.name, v.position, fold)
        for own in measured
        for v, fold in zip(own.saturation.variants, own.folds, strict=True)
    ]
    for fold in range(script.N_FOLDS):
        data = script._parts(measured, fold)
        parts = [
            {at[int(place.chrom)][:2] for place in windows.places} for windows in (data.train, data.valid, data.test)
        ]
        assert sum(map(len, parts)) == len(set.union(*parts)) == len({position[:2] for position in at})
        assert {at[int(place.chrom)][2] for place in data.test.places} == {fold}
        labels = np.concatenate([own.is_positive[own.folds == fold] for own in measured])
        np.testing.assert_array_equal([place.label for place in data.test.places], labels)


def test_a_network_reads_both_alleles_of_its_variant(script, folder):
    (own,) = script.regions()["BRCA1"]
    padded = "N" * script.SIDE + own.saturation.sequence + "N" * script.SIDE
    for variant, pair in zip(own.saturation.variants, script._pairs(own.saturation), strict=True):
        reference, other = pair[: len(pair) // 2], pair[len(pair) // 2 :]
        assert reference == padded[variant.position : variant.position + 2 * script.SIDE + 1]
        assert (other[script.SIDE], len(pair)) == (variant.alternative, 4 * script.SIDE + 2)
        assert (
            other[: script.SIDE] + other[script.SIDE + 1 :] == reference[: script.SIDE] + reference[script.SIDE + 1 :]
        )


def test_stretches_of_a_language_that_test_were_not_trained_on(script, folder):
    data = script._human(SimpleNamespace(length=40, hidden=0.15))
    read = [
        {(p.chrom, at) for p in windows.places for at in range(p.start, p.end)}
        for windows in (data.train, data.valid, data.test)
    ]
    assert all(read)
    assert sum(map(len, read)) == len(set.union(*read))


# Scores


def test_a_known_effect_has_the_known_score(script, folder):
    rows = rows_of(script)
    for row in rows.values():
        n = {"BRCA1": 3 * N_EXONS * EXON, "CAGI5": 2 * 3 * 60}[row["set"]]
        assert row["n"] == n
        assert 0 < row["positive"] < n // 2
    for name in ("auroc", "auprc", "within", "r"):
        assert rows["BRCA1", "CADD"][name] == pytest.approx(1, abs=PERFECT)
        assert rows["BRCA1", "linear"][name] > LEARNT if name == "r" else rows["BRCA1", "linear"][name] == 1
        assert rows["CAGI5", "linear"][name] > LEARNT
    assert rows["BRCA1", "phyloP"]["auroc"] == rows["BRCA1", "phyloP"]["within"] == 0
    (own,) = script.regions()["BRCA1"]
    pairs = [(v.reference, v.alternative) for v in own.saturation.variants]
    expected = _auroc([(a in "AT") - (b in "AT") for a, b in pairs], [b == "T" for _, b in pairs])
    assert rows["BRCA1", "G or C in place of A or T"]["auroc"] == pytest.approx(expected)


def _auroc(values, labels):
    values, labels = np.array(values, dtype=float), np.array(labels)
    apart = values[labels][:, None] - values[~labels]
    return float((apart > 0).mean() + (apart == 0).mean() / 2)


def test_held_out_positions_are_scored_by_what_the_others_say(script, folder):
    """Where the effect turns over in the exons of one fold, these are told wrongly, and nothing else changes."""
    (before,) = script.regions()["BRCA1"]
    written(folder, lambda a, b, position: (b == "T") != (position // (EXON + GAP) % 5 == 0))
    (after,) = script.regions()["BRCA1"]
    x = script._linear_features(before)
    values = [script._held_out(x, own.is_positive, own.folds) for own in (before, after)]
    is_turned = before.folds == 0
    np.testing.assert_allclose(values[1][is_turned], values[0][is_turned], atol=PERFECT)
    assert _auroc(values[1][is_turned], after.is_positive[is_turned]) < 0.5
    assert _auroc(values[0][is_turned], before.is_positive[is_turned]) == 1


def test_an_effect_of_the_place_alone_is_none_within_folds(script, folder):
    """Exons that matter are found by nothing that reads alleles, and a score of folds alone is no better than chance
    within them."""
    written(folder, lambda a, b, position: position // (EXON + GAP) % 5 == 0 and b in "AC")
    (own,) = script.regions()["BRCA1"]
    row = script._row("BRCA1", "fold", [own], [-own.folds.astype(float)])
    assert row["auroc"] > 0.8
    assert row["within"] == 0.5


def test_pairs_are_scored_by_chromosomes_held_out(script, folder):
    columns = ["chrom", "chromStart", "chromEnd", "name", "startTSS", "measuredGeneSymbol", "Regulated", "Dataset"]
    columns += ["distanceToTSS", "measuredGeneUbiquitousExpressed", "H3K27ac.RPM", "DHS.RPM"]
    rng, lines = np.random.default_rng(0), ["\t".join(columns)]
    for number in range(200):
        distance, activity = int(10 ** rng.uniform(3, 6)), rng.uniform(0, 10)
        is_regulated = str(distance < 30_000).upper()
        at = (
            f"chr{number % 5}",
            100,
            200,
            f"e{number}",
            100 + distance,
            "G",
            is_regulated,
            "made up",
            distance,
            "FALSE",
        )
        lines.append("\t".join(map(str, (*at, activity, activity))))
    folder("crispri_k562").write_text("\n".join(lines) + "\n")
    rows = {row["what"].partition(",")[0]: row for row in script.pairs(0, Path())}
    assert rows["distance"]["auroc"] == rows["distance"]["auprc"] == pytest.approx(1)
    assert rows["linear"]["auroc"] > LEARNT
    assert rows["distance"]["auroc"] > rows["activity × contact"]["auroc"] > LEARNT - 0.2


def test_the_page_has_a_line_for_each_predictor_and_means_over_seeds(script, folder):
    rows = script.tables(0, Path())
    page = script.variant_page(
        [row | {"auroc": row["auroc"] - 0.25 * k} for k in range(2) for row in rows]
    ).splitlines()
    assert len(page) == 2 + len(rows)
    (line,) = (line for line in page if "| BRCA1 | CADD |" in line)
    assert [cell.strip() for cell in line.split("|")[5:7]] == ["2", "0.875"]


@pytest.mark.slow
def test_a_network_learns_the_known_effect(script, folder, tmp_path, monkeypatch):
    """Of few variants by many epochs."""
    monkeypatch.setattr(script, "N_FOLDS", 3)
    monkeypatch.setattr(script, "EPOCHS", {"BRCA1": 60})
    measured = [script.of_brca1()]
    values = script._by_network("BRCA1", measured, 0, tmp_path)
    assert script._row("BRCA1", "network", measured, values)["within"] > LEARNT_BY_FEW
