"""The crystal data sets: our own silicon, and the public ones with what their files must be.

Size and sha256 are those of the prepared files (extended XYZ, xz). A file converted here from the published JSON
compresses to other bytes; its `Content` is the checksum then.
"""

from __future__ import annotations

from functools import partial

from isometry_data.entries import DataFile, DataSet
from isometry_data.mlearn import Content, convert_mlearn, convert_nbmotaw

_RAW = "https://raw.githubusercontent.com/materialsvirtuallab"
_MLEARN_AT = f"{_RAW}/mlearn/a04d3b6ecaac47c27aa8f7e452c16a5c9a2a8cff/data"
_NBMOTAW_AT = f"{_RAW}/maml/1463eeeeb89900df3dd67cee7ce5be321541c302/mvl_models/pes/MoNbTaW/training"
_NBMOTAW_TRAIN = (
    *("MoTa_SS", "MoW_SS", "Mo_AIMD", "Mo_Elastic", "Mo_Surface", "NbMo_SS", "NbTa_SS", "NbW_SS", "Nb_AIMD"),
    *("Nb_Elastic", "Nb_Surface", "TaW_SS", "Ta_AIMD", "Ta_Elastic", "Ta_Surface", "W_AIMD", "W_Elastic", "W_Surface"),
)
_NBMOTAW_TEST = ("MoW_Test", "Mo_Test", "NbMo_Test", "NbTa_Test", "NbW_Test", "Nb_Test")


def _mlearn(element: str, split: str, size: int, sha256: str, content: Content) -> DataFile:
    return DataFile(
        name=f"{element}_{split}",
        path=f"crystal/mlearn/{element}_{split}.extxyz.xz",
        size=size,
        sha256=sha256,
        sources=(f"{_MLEARN_AT}/{element}/{'training' if split == 'train' else 'test'}.json",),
        convert=partial(convert_mlearn, expected=content),
    )


def _nbmotaw(name: str, parts: tuple[str, ...], size: int, sha256: str, content: Content) -> DataFile:
    return DataFile(
        name=name,
        path=f"crystal/nbmotaw/{name}.extxyz.xz",
        size=size,
        sha256=sha256,
        sources=tuple(f"{_NBMOTAW_AT}/{part}.json" for part in parts),
        convert=partial(convert_nbmotaw, expected=content),
    )


_MLEARN_FILES = (
    _mlearn(
        "Si",
        "train",
        315232,
        "6ff9cf611120f9c999f549e112b92ca6c732c1ee1bf3bf66b4c693de4cdc73dd",
        Content(214, 13233, "80f5d87a4d8155b0fd59b71215fdd308c52053a0fe5b0b74cb7bfaa05df2f9c8", 0.8735533, 0.01884375),
    ),
    _mlearn(
        "Si",
        "test",
        38164,
        "588f718bb46613a5b244f5f2d1ea977098b4f6f59088d54840b9b9de292efa38",
        Content(25, 1525, "09cb002288ebd8ce8e37d17dcba392ccfb941541455771ac59485d3f01bbf7a8", 0.8808929, 0.01717876),
    ),
    _mlearn(
        "Cu",
        "train",
        431232,
        "9f03dac66820964825a2259d5085353d1678594b1f22da378e901865f8a038fa",
        Content(262, 27416, "2791d6ecafc82220730a785088d25942f4f33f8560b890b4e4630646002f1361", 0.781773, None),
    ),
    _mlearn(
        "Cu",
        "test",
        62328,
        "62b626ad28ae43e0cdca8085fc77224c656cd7b9bd2d03dd6d12669e6ca9bca3",
        Content(31, 3178, "bc16685ba3fad2c20fab43cdeb06b27bfad991c124c1c49f57d60d06e18ed0d7", 0.8788398, 0.04814554),
    ),
    _mlearn(
        "Ni",
        "train",
        444532,
        "73cce418bda573e3933abc27fa27edc3d27cefd9818692b967dbe310f3504f52",
        Content(263, 27420, "765e974346683beaa677e337ea86a9fa9912a9ef0170852b1149e4c21590fe5e", 0.8609444, None),
    ),
    _mlearn(
        "Ni",
        "test",
        65348,
        "23ba2cd21832f259e92d13f35f8cfed9445f1dfea8ec9fadb4caabd6aad1fb00",
        Content(31, 3158, "952675ad9929fc4f33f029bc7ad10edc20a9e73ee02779ee930eb8f58576bc44", 0.9704588, 0.05927563),
    ),
    _mlearn(
        "Mo",
        "train",
        299192,
        "74269fc28df0b6b648c51e9e2ce2be2982d6df1d0f732149a4605cd5d1a0fac5",
        Content(194, 10087, "310ff87b0ce3ba95062ca29d264bedee1b1fd3b1728527970e125ed852247c1d", 1.570184, 0.09377688),
    ),
    _mlearn(
        "Mo",
        "test",
        36164,
        "cd5bb87211cd42e6be1561d348fb1847cbb5839412ed2ae58415be769cb46fb6",
        Content(23, 1189, "9af304c83e36841bfe80eb5dba76fea1dc9cdab1f90b0b4dd64070e2a303c303", 1.568424, 0.09530465),
    ),
    _mlearn(
        "Li",
        "train",
        346928,
        "d48c648b8850ad3113028c0004c6770a50f5c9baa722e4cb87f9dad1d45435b0",
        Content(241, 11576, "60e3fd18508b9b13b803e14fc084954299b213afcc71a761402cb5f1ea601fa8", 0.2569487, 0.007260406),
    ),
    _mlearn(
        "Ge",
        "train",
        337896,
        "163179475523a759dd11814b0815a604778cf1b1c5ae04988558884500f9c191",
        Content(228, 14072, "4f02dc61b1660785c520babb0b53742a7fec8eed50064587dba30670a2f59e4a", 0.657816, 0.02774079),
    ),
)

_NBMOTAW_FILES = (
    _nbmotaw(
        "train",
        _NBMOTAW_TRAIN,
        2123652,
        "db61acba0d9f1c1621501ad4f8f774bfda6904a35cdb6ebbeceedc96efe3c3ae",
        Content(
            5282, 108464, "6d3c37d249b9925d1a2160e31aafc12429a1b15781750bf390f0970f7c10b802", 0.8165443, 0.04353967
        ),
    ),
    _nbmotaw(
        "test",
        _NBMOTAW_TEST,
        109764,
        "bafd1112fd6966c7ee72e2928718168cd3dc557a383ef2feafc445c256a409f6",
        Content(220, 4520, "771981392236e5370f9de956fff2b7817fb07ba1eeebed5229fe69ade6720f84", 0.9570604, 0.04323611),
    ),
)

CRYSTAL_SETS = (
    DataSet(
        name="silicon",
        title="Silicon cells by density-functional theory (LDA): energies, forces, stresses",
        files=(DataFile("silicon", "silicon/silicon.extxyz.xz"),),
        licence="CC0-1.0",
        citation="The Isometry developers; made by isometry_data/silicon/compute.py with Quantum ESPRESSO",
        address="",
        is_own=True,
    ),
    DataSet(
        name="mlearn",
        title="Si, Cu, Ni, Mo (training and test), Li, Ge (training) by VASP, PBE: energies, forces, stresses",
        files=_MLEARN_FILES,
        licence="BSD-3-Clause",
        citation="Zuo et al., J. Phys. Chem. A 124, 731 (2020), doi:10.1021/acs.jpca.9b08723",
        address="https://github.com/materialsvirtuallab/mlearn",
    ),
    DataSet(
        name="nbmotaw",
        title="Nb, Mo, Ta, W and their alloys by VASP, PBE: energies, forces, stresses",
        files=_NBMOTAW_FILES,
        licence="BSD-3-Clause",
        citation="Li et al., npj Comput. Mater. 6, 70 (2020), doi:10.1038/s41524-020-0339-0",
        address="https://github.com/materialsvirtuallab/maml",
    ),
)
