"""The signaling data sets: what their prepared files must be, and where they come from.

Each is one table with a row per cell. No public file in this form is known: a prepared file is looked for at the path
given. Size and sha256 are those of the prepared files.
"""

from __future__ import annotations

from isometry_data.entries import DataFile, DataSet

_FOLDER = "signaling"


def _set(
    name: str, title: str, file: str, size: int, sha256: str, licence: str, citation: str, address: str
) -> DataSet:
    return DataSet(name, title, (DataFile("cells", f"{_FOLDER}/{file}", size, sha256),), licence, citation, address)


SIGNALING_SETS = (
    _set(
        "nfkb-tnf",
        "Nuclear NF-κB of 15,632 cells at 0, 3, 21, 90 and 120 min after eleven doses of TNF (ng/mL)",
        "nfkb_tnf_jetka2019.csv.gz",
        210817,
        "ae174279f6c0523d295f5240ecafb56f5d6de14212aaf11605e78ac467c5e4b6",
        "published with the article, CC-BY-4.0",
        "Jetka et al., PLoS Comput. Biol. 15, e1007132 (2019), doi:10.1371/journal.pcbi.1007132",
        "https://doi.org/10.1371/journal.pcbi.1007132",
    ),
    _set(
        "jak-stat",
        "STAT responses of single and multinuclear cells to interferon gamma and oncostatin M (ng/mL) over time",
        "jakstat_topolewski2022.csv.gz",
        199665,
        "fc0682b98a8809de7be42b1278e28dc300d9da9fe945f82d5c2ce98fd5fae8c4",
        "none stated; published supplementary data, not to be redistributed",
        "Topolewski et al., Sci. Signal. 15, eabd9303 (2022), doi:10.1126/scisignal.abd9303",
        "https://doi.org/10.1126/scisignal.abd9303",
    ),
    _set(
        "laci-iptg",
        "Fluorescence of 198,993 bacteria: operators, repressor counts, inducer IPTG (µM), days",
        "laci_iptg_razo2020.csv.gz",
        1931433,
        "cd2aed9c62985143269b6e1eeb40ead687d25bc9d98112a519a2de21d539b059",
        "none stated; published supplementary data, not to be redistributed",
        "Razo-Mejia et al., Phys. Rev. E 102, 022404 (2020), doi:10.1103/PhysRevE.102.022404",
        "https://github.com/RPGroup-PBoC/chann_cap",
    ),
    _set(
        "nfkb-macrophage",
        "NF-κB of 1,140 macrophages every 5 min for 8 h after five ligands at several doses",
        "nfkb_macrophage_guo2025.csv.gz",
        332482,
        "0b14e63e3fad1a002bd3dde3b74b351558a00e04bb67782b57cc691fc5197a82",
        "none stated; published supplementary data, not to be redistributed",
        "Guo et al., Nat. Commun. 16 (2025): heterogeneous signaling dynamics of macrophages",
        "",
    ),
)
