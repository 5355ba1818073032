"""The genome data sets as the catalogue lists them: what their prepared files must be, and where they come from.

Size and sha256 are those of the prepared files. Genomes, promoters and pairs can be made from public ones, and their
contents are then compared. The others have no public address in this form: they were brought into it from a
spreadsheet, R data or annotations of one day, and are looked for below `$ISOMETRY_DATA`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from isometry_data.entries import DataFile, DataSet
from isometry_data.genome_downloads import PROMOTER_FILES, convert_genome, convert_promoters, convert_table

_FOLDER = "genome"
_NO_LICENCE = "none stated (published supplementary data): to train and score, not to redistribute"
_RAW = "https://raw.githubusercontent.com"
_PROMOTERS_AT = "solovictor/CNNPromoterData/b4d2949e9bc5206f3049b35a488b036125ccc653"
_PAIRS_AT = (
    "EngreitzLab/CRISPR_comparison/83e6f72a0f1e5b3a07ba741850ad9a1eedec45e9/resources/crispr_data"
    "/EPCrisprBenchmark_combined_data.training_K562.GRCh38.tsv.gz"
)
_YEAST_AT = "https://hgdownload.soe.ucsc.edu/goldenPath/sacCer3/bigZips/sacCer3.2bit"
_ECOLI = ("NC_000913.3", "NC_011750.1", "NC_011751.1")
_ECOLI_AT = (
    "https://eutils.ncbi.nlm.nih.gov/entrez/eutils/efetch.fcgi?db=nuccore&rettype=fasta&retmode=text&id="
    + ",".join(_ECOLI)
)
_NUMERALS = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV", "XVI")


def _file(
    name: str,
    file: str,
    size: int,
    sha256: str,
    sources: tuple[str, ...] = (),
    convert: Callable[[Sequence[Path], Path], None] | None = None,
) -> DataFile:
    return DataFile(name, f"{_FOLDER}/{file}", size, sha256, sources, convert)


GENOME_SETS = (
    DataSet(
        name="yeast",
        title="Yeast (S288C, R64): bases, features, replication timing by kilobase; origins, whose positions are of an "
        "older assembly (off by up to a few kb)",
        files=(
            _file(
                "genome",
                "yeast_R64-1-1.fa.gz",
                3624189,
                "b850924f11a0b2ad89b9221f18faeedd21ac2e50970b38618843f37fbb1a6bde",
                sources=(_YEAST_AT,),
                convert=partial(
                    convert_genome,
                    names=tuple(f"chr{numeral}" for numeral in _NUMERALS),
                    sha256="55ef59039daf681ff8ab934b98b0572424b65655068a82eb4e91d59f115a1ce1",
                ),
            ),
            _file(
                "features",
                "yeast_features.tsv.gz",
                89892,
                "cdaac7657efa8f345235963513da8f1f177580da171910810da8c3223fe05a1a",
            ),
            _file(
                "timing",
                "yeast_timing_1kb.tsv.gz",
                328582,
                "91057476bf5ce9016174f5a3e618eedc2a5dc44c88470105bb6f14a266562b05",
            ),
            _file(
                "origins",
                "yeast_oridb_confirmed.tsv",
                16037,
                "940178eedf5991aa77e684f303d33cde11a45389e57d8624d16cb82fdfa09373",
            ),
        ),
        licence="bases and features: public domain (SGD, RefSeq); timing and origins: GPL-3 (Repliscope), GEO GSE48212",
        citation="Engel et al., G3 4, 389 (2014), doi:10.1534/g3.113.008995; timing: Müller et al., Nucleic Acids Res. "
        "42, e3 (2014), doi:10.1093/nar/gkt878; origins: Siow et al., Nucleic Acids Res. 40, D682 (2012), "
        "doi:10.1093/nar/gkr1091",
        address="https://www.yeastgenome.org; https://github.com/DzmitryGB/Repliscope",
    ),
    DataSet(
        name="ecoli",
        title="Three complete E. coli chromosomes (K-12 MG1655, IAI39, UMN026) with their features",
        files=(
            _file(
                "genomes",
                "ecoli3.fa.gz",
                4193012,
                "894b7243a10d3f36efe839cdc0ddbc5fad8df5f5e8992264a2e043928ddef1ad",
                sources=(_ECOLI_AT,),
                convert=partial(
                    convert_genome,
                    names=_ECOLI,
                    sha256="9b4f22c2a26777d61321c6757bc51d916c30428b180992f24c8c8e2f8451212f",
                ),
            ),
            _file(
                "features",
                "ecoli3_features.tsv.gz",
                164527,
                "6542937d9dd19a827c05870bd0059adecff00edd9e4783b160f3508716e13a6b",
            ),
        ),
        licence="public domain (NCBI RefSeq)",
        citation="NC_000913.3: Blattner et al., Science 277, 1453 (1997), doi:10.1126/science.277.5331.1453; "
        "NC_011750.1, NC_011751.1: Touchon et al., PLoS Genet. 5, e1000344 (2009), doi:10.1371/journal.pgen.1000344",
        address="https://www.ncbi.nlm.nih.gov/nuccore/NC_000913.3,NC_011750.1,NC_011751.1",
    ),
    DataSet(
        name="promoters",
        title="Promoters and other sequences: E. coli sigma-70, Arabidopsis without TATA box, mouse with TATA box",
        files=(
            _file(
                "promoters",
                "promoters.csv.gz",
                1655491,
                "45bfb3cdd7af755170ffa903c0968991ea8f6e8050d56a80856bad9f2ddbde73",
                sources=tuple(f"{_RAW}/{_PROMOTERS_AT}/{file}" for file in PROMOTER_FILES),
                convert=partial(
                    convert_promoters,
                    sha256="76c9ea5b3d4fec584a6ea60bacfee6384300ca27d8435a33d086cbf42e5bca6e",
                ),
            ),
        ),
        licence=_NO_LICENCE,
        citation="Umarov & Solovyev, PLoS ONE 12, e0171410 (2017), doi:10.1371/journal.pone.0171410",
        address="https://github.com/solovictor/CNNPromoterData/tree/b4d2949e9bc5206f3049b35a488b036125ccc653",
    ),
    DataSet(
        name="brca1",
        title="3,893 single changes of BRCA1 with measured function, and the 81 kb they lie in (hg38)",
        files=(
            _file(
                "region",
                "brca1_hg38_chr17_43044295_43125483.fa.gz",
                21293,
                "52159333b795acc8b1f032862fc9a7fb6453c7ad36c8762fddb5bab181966af3",
            ),
            _file(
                "variants",
                "brca1_sge.csv.gz",
                74859,
                "695e815c5a8551243baaae13ace4e66935ec2843ed1840239cf8c7810375334c",
            ),
        ),
        licence=_NO_LICENCE,
        citation="Findlay et al., Nature 562, 217 (2018), doi:10.1038/s41586-018-0461-z",
        address="https://doi.org/10.1038/s41586-018-0461-z",
    ),
    DataSet(
        name="cagi5",
        title="Saturation mutagenesis of seven regulatory elements by reporter assay (CAGI5, the labelled quarter)",
        files=(
            _file(
                "elements",
                "cagi5_elements.fa",
                2256,
                "f2789fd54a75a787ae6445f6f8f5878eff58b03d115696a0177e3bcc20a679c4",
            ),
            _file(
                "variants",
                "cagi5_satmut.csv.gz",
                11663,
                "19ffb9ff2282986c43a09f822f65f826d6f6163ac117b763ecd71b1167804165",
            ),
        ),
        licence=_NO_LICENCE,
        citation="Kircher et al., Nat. Commun. 10, 3583 (2019), doi:10.1038/s41467-019-11526-w; "
        "Shigaki et al., Hum. Mutat. 40, 1280 (2019), doi:10.1002/humu.23797",
        address="https://github.com/alex-hh/cagi5_mpra_prediction/tree/master/data",
    ),
    DataSet(
        name="crispri_k562",
        title="10,356 enhancer-gene pairs of K562 tested by CRISPRi, with distance and chromatin signals (GRCh38)",
        files=(
            _file(
                "pairs",
                "crispri_k562_training.tsv.gz",
                996546,
                "9eddfe18f6797ba33db8ba7e75378cc6af6b79cbb83f62d470c6e0cefed79405",
                sources=(f"{_RAW}/{_PAIRS_AT}",),
                convert=partial(
                    convert_table,
                    sha256="23f088b458051bf9ed8b011a7b4d44ffe24892d61ff41b7bf1c632c381a4249a",
                ),
            ),
        ),
        licence="MIT",
        citation="Gschwind et al., bioRxiv 2023.11.09.563812 (2023), doi:10.1101/2023.11.09.563812",
        address="https://github.com/EngreitzLab/CRISPR_comparison/tree/83e6f72a0f1e5b3a07ba741850ad9a1eedec45e9",
    ),
)
