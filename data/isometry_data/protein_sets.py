"""The protein data sets: what their prepared files must be, and where they come from.

All are five-line state files (`state_files`). Size and sha256 are those of the prepared files. Of FLIP's archive a file
can be made here; its records are then compared with the prepared ones by `Content`. For the rest no public file in
this form is known. Of the tests TS115, CASP12 and NEW364 no file was at hand to take a checksum of, so that none is
checked: one in the five-line format, or as NetSurfP-2.0 (.npz) or ProtTrans (.csv) publish it (`state_tables`), is
looked for at the paths given and read as it is, which `locate` tells.
"""

from __future__ import annotations

from functools import partial

from isometry_data.entries import DataFile, DataSet
from isometry_data.flip_archive import Content, convert_flip

_FLIP_AT = (
    "https://raw.githubusercontent.com/J-SNACKKB/FLIP/62cace8735f5610e2743cf06ce0f944b37fffaa6"
    "/splits/secondary_structure/splits.zip"
)
_FOLDER = "protein"


def _netsurfp2(name: str, size: int, sha256: str, content: Content) -> DataFile:
    return DataFile(
        name=name,
        path=f"{_FOLDER}/netsurfp2/{name}.ss.gz",
        size=size,
        sha256=sha256,
        sources=(_FLIP_AT,),
        convert=partial(convert_flip, split=name, expected=content),
    )


def _published(name: str) -> tuple[str, ...]:
    """Under the names that NetSurfP-2.0's and ProtTrans's files have."""
    return tuple(f"{_FOLDER}/{name}/{name.upper()}{end}" for end in (".npz", "_HHblits.npz", ".csv", "_HHblits.csv"))


def _by_hand(name: str, title: str, citation: str, address: str) -> DataSet:
    return DataSet(
        name=name,
        title=title,
        files=(DataFile("test", f"{_FOLDER}/{name}/test.ss.gz", also=_published(name)),),
        licence="structures from the PDB, CC0-1.0",
        citation=citation,
        address=address,
    )


_CB513 = DataFile(
    name="cb513",
    path=f"{_FOLDER}/netsurfp2/cb513.ss.gz",
    size=118833,
    sha256="2072590ebaabd87569478411927968501bbea85d5595457fd589f20966b37410",
)
_KLAUSEN = "Klausen et al., Proteins 87, 520 (2019), doi:10.1002/prot.25674"

PROTEIN_SETS = (
    DataSet(
        name="netsurfp2",
        title="Chains with three states and the residues their structures show (training, validation); CB513 (test)",
        files=(
            _netsurfp2(
                "train",
                2102800,
                "e437782cb147613ab58239d3ad6d39937492b06703d5c633c0d2648f440d6482",
                Content(9712, 2479773, "71beb1d3618808e06c3119ac4ee2ba29bbce0587dcffa36750ab67a4a12a4c97"),
            ),
            _netsurfp2(
                "valid",
                238110,
                "98ee1a790a1b751811d51e61c424894b81671ae306635f82bcf2f20238bb1d99",
                Content(1080, 280780, "40ade905a01dd78d19920eca9efb9f0bdc50ba1646e0be749e0634b5289712d9"),
            ),
            _CB513,
        ),
        licence="AFL-3.0 (FLIP), structures from the PDB, CC0-1.0",
        citation=f"{_KLAUSEN}; by FLIP, Dallago et al., NeurIPS Datasets and Benchmarks (2021); "
        "CB513: Cuff & Barton, Proteins 34, 508 (1999)",
        address="https://github.com/J-SNACKKB/FLIP/tree/main/splits/secondary_structure",
    ),
    DataSet(
        name="cb6133",
        title="Chains with eight states, filtered against CB513 (training)",
        files=(
            DataFile(
                name="train",
                path=f"{_FOLDER}/cb6133/train.ss.gz",
                size=1278183,
                sha256="aac24b2627706230c6b746361a5dd337773b426c73adbe1bf213dff0ab68def8",
            ),
        ),
        licence="none stated; structures from the PDB, CC0-1.0",
        citation="Zhou & Troyanskaya, ICML (2014), arXiv:1403.1347",
        address="https://arxiv.org/abs/1403.1347",
    ),
    _by_hand(
        "ts115",
        "115 chains newer than 2016 (test)",
        "Yang et al., Brief. Bioinform. 19, 482 (2018), doi:10.1093/bib/bbw129",
        "https://doi.org/10.1093/bib/bbw129",
    ),
    _by_hand(
        "casp12",
        "Targets of CASP12 (test)",
        "Moult et al., Proteins 86 Suppl. 1, 7 (2018), doi:10.1002/prot.25415",
        "https://doi.org/10.1002/prot.25415",
    ),
    _by_hand(
        "new364",
        "364 chains newer than 2019 (test)",
        "Elnaggar et al., IEEE TPAMI 44, 7112 (2022), doi:10.1109/TPAMI.2021.3095381",
        "https://doi.org/10.1109/TPAMI.2021.3095381",
    ),
)
