"""Differences from a genome: VCF in and out, and the check that its reference alleles are the genome's.

The text is read here and not by htslib (pysam, cyvcf2), so that every message has its file and line, nothing is
passed over silently, and positions stay as the file has them.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

from isometry_data.bases import BASE_SETS, ascii_of, complement, is_base, text_of
from isometry_data.chromosome_names import unknown_name
from isometry_data.genomes import Genome
from isometry_data.text_files import lines_of, name_of
from isometry_data.written_whole import written_whole

LONGEST_TOLD = 50  # letters of an allele in a message
_HEADER = ("#CHROM", "POS", "ID", "REF", "ALT")
_NUMBER = re.compile(r"##INFO=<ID=([^,]+),Number=([ARG])\b")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Variant:
    """`reference` at `position` (0-based) becomes `alternative`; each has at least one letter, as in VCF."""

    chrom: str
    position: int
    reference: str
    alternative: str
    name: str = ""
    source: str = ""  # file and line, for messages
    rest: tuple[str, str, str] = field(
        default=(".", ".", "."), compare=False
    )  # QUAL, FILTER, INFO as the file has them

    def __str__(self) -> str:
        alleles = (a if len(a) <= LONGEST_TOLD else f"{a[:4]}…[{len(a)}]" for a in (self.reference, self.alternative))
        return f"{self.chrom}:{self.position + 1} {'>'.join(alleles)}"  # 1-based, as in VCF

    @property
    def end(self) -> int:
        """0-based, behind the last reference letter."""
        return self.position + len(self.reference)


def read_vcf(
    path: str | os.PathLike[str], skipped: list[str] | None = None, header: list[str] | None = None
) -> list[Variant]:
    """Every alternative of every line as one variant, in upper case; the file may be gzipped or `-`.

    Alternatives that no letters can stand for are left out: `*`, `<DEL>` and its like, breakends, `.` (no
    alternative), and what equals the reference. Each is told to `skipped`, by line; their number is logged. Lines
    `##…` are told to `header`. Of what INFO has for each allele (Number=A, R) several alternatives keep their own.

    Raises:
        FileNotFoundError: no such file.
        ValueError: one line with file and line: no VCF, a position or an allele that is none, no variant at all.
    """
    source, found, left_out, has_header = name_of(path), [], [], False
    about: list[str] = [] if header is None else header
    numbers: dict[str, str] = {}
    for number, line in enumerate(lines_of(path), start=1):
        where = f"{source}, line {number}"
        if line.startswith("#CHROM"):
            _check_header(line, where)
            has_header, numbers = True, {said[1]: said[2] for own in about if (said := _NUMBER.match(own))}
        elif line.startswith("##"):
            about.append(line)
        elif line.strip() and not line.startswith("#"):
            if not has_header:
                raise ValueError(f"{where}: expected VCF: a line '#CHROM POS ID REF ALT' above")
            found += _variants(line, where, left_out, numbers)
    if left_out and found:
        _log.warning("%s: %d alternatives left out, first: %s", source, len(left_out), left_out[0])
    if skipped is not None:
        skipped += left_out
    if not found:
        raise ValueError(f"{source}: no variants" + (f"; left out: {left_out[0]}" if left_out else ", expected VCF"))
    return found


def check_references(variants: Sequence[Variant], genome: Genome) -> None:
    """Refuses variants whose reference allele is not what the genome has there; case does not count, and an ambiguous
    letter of the genome agrees with each base it may be.

    Raises:
        ValueError: one line: the first that disagrees, what the genome has, how many disagree, and the probable cause.
    """
    lengths, wrong = genome.lengths, []
    for variant in variants:
        where = f"{variant.source}: " if variant.source else ""
        if variant.chrom not in lengths:
            raise ValueError(f"{where}{variant}: {unknown_name(variant.chrom, lengths, str(genome.file))}")
        if variant.position < 0 or variant.end > lengths[variant.chrom]:
            length = lengths[variant.chrom]
            raise ValueError(f"{where}{variant} lies past the end of {variant.chrom} ({length} bases in {genome.file})")
        if not _agrees(variant.reference, genome.fetch(variant.chrom, variant.position, variant.end)):
            wrong.append(variant)
    if wrong:
        first = wrong[0]
        at, has = _difference(first, text_of(genome.fetch(first.chrom, first.position, first.end)))
        where = f"{first.source}: " if first.source else ""
        raise ValueError(
            f"{where}{first}: the reference allele is {at!r}, but {genome.file} has {has!r} there "
            f"({len(wrong)} of {len(variants)} variants disagree{_cause(wrong, genome)})"
        )


def write_vcf(
    path: str | os.PathLike[str],
    told: Iterable[tuple[Variant, Mapping[str, float | None]]],
    about: str = "effect",
    header: Iterable[str] = (),
) -> None:
    """VCF 4.2 with a line for each variant and its numbers as INFO, behind what its file had there; all have the names
    of the first, None is left out.

    Args:
        told: consumed one by one; the file may be longer than memory.
        about: what the numbers are, for the header.
        header: lines `##…` of the file that the variants came from, of which those about samples are left out.
    """
    with written_whole(path) as stream:
        stream.write("##fileformat=VCFv4.2\n")
        waiting = iter(told)
        first = next(waiting, None)
        names = {name: re.sub(r"[^A-Za-z0-9_.]", "_", name) for name in (first[1] if first else ())}
        ours = tuple(f"##INFO=<ID={key}," for key in names.values())
        left_out = ("##fileformat", "##FORMAT", "##SAMPLE", "##PEDIGREE", *ours)
        stream.writelines(f"{line}\n" for line in header if not line.startswith(left_out))
        for name, key in names.items():
            text = f"{about}: {name}".replace("\\", "/").replace('"', "'")
            stream.write(f'##INFO=<ID={key},Number=1,Type=Float,Description="{text}">\n')
        stream.write("\t".join((*_HEADER, "QUAL", "FILTER", "INFO")) + "\n")
        for variant, numbers in chain([first] if first else [], waiting):
            quality, passed, had = variant.rest
            kept = [said for said in had.split(";") if said != "." and said.partition("=")[0] not in names.values()]
            own = (f"{names[name]}={value:.6g}" for name, value in numbers.items() if value is not None)
            info = ";".join([*kept, *own])
            cells = (variant.chrom, str(variant.position + 1), variant.name or ".", variant.reference)
            stream.write("\t".join((*cells, variant.alternative, quality, passed, info or ".")) + "\n")


def _check_header(line: str, where: str) -> None:
    names = tuple(line.split("\t")[: len(_HEADER)])
    if names != _HEADER:
        raise ValueError(f"{where}: columns {' '.join(names)}, expected {' '.join(_HEADER)}, separated by tabs")


def _variants(line: str, where: str, left_out: list[str], numbers: Mapping[str, str]) -> list[Variant]:
    cells = line.split("\t")
    if len(cells) < len(_HEADER):
        raise ValueError(f"{where}: {len(cells)} columns, expected at least {len(_HEADER)}, separated by tabs")
    chrom, position, name, reference, alternatives = cells[: len(_HEADER)]
    if not position.isdigit() or position == "0":
        raise ValueError(f"{where}: position {position!r}, expected a whole number from 1")
    if not _is_dna(reference):
        raise ValueError(f"{where}: reference allele {reference!r}, expected letters of DNA")
    found = []
    quality, passed, info = (*cells[5:8], ".", ".", ".")[:3]
    for at, alternative in enumerate(different := alternatives.split(",")):
        if reason := _reason_to_skip(alternative, reference):
            left_out.append(f"{where}: {alternative!r} ({reason})")
        elif not _is_dna(alternative):
            raise ValueError(f"{where}: alternative allele {alternative!r}, expected letters of DNA")
        else:
            alleles = (reference.upper(), alternative.upper())
            rest = (quality, passed, _of_allele(info, at, numbers) if len(different) > 1 else info)
            found.append(Variant(chrom, int(position) - 1, *alleles, "" if name == "." else name, where, rest))
    return found


def _of_allele(info: str, at: int, numbers: Mapping[str, str]) -> str:
    """What INFO says of one alternative among several; what it says of genotypes is left out."""
    kept = []
    for said in info.split(";"):
        key, _, values = said.partition("=")
        number, each = numbers.get(key), values.split(",")
        if number is None:
            kept.append(said)
        elif number == "A" and at < len(each):
            kept.append(f"{key}={each[at]}")
        elif number == "R" and at + 1 < len(each):
            kept.append(f"{key}={each[0]},{each[at + 1]}")
    return ";".join(kept) or "."


def _reason_to_skip(alternative: str, reference: str) -> str:
    if alternative == ".":
        return "no alternative"
    if alternative == "*":
        return "deleted by another variant"
    if alternative.startswith("<"):
        return "symbolic"
    if any(mark in alternative for mark in "[]") or alternative.startswith(".") or alternative.endswith("."):
        return "breakend"
    return "the reference itself" if alternative.upper() == reference.upper() else ""


def _is_dna(text: str) -> bool:
    return bool(text) and text.isascii() and bool(is_base(ascii_of(text)).all())


def _agrees(allele: str, letters: np.ndarray) -> bool:
    """Whether each letter may be the genome's: the sets of bases they stand for meet."""
    wanted = ascii_of(allele)
    return len(wanted) == len(letters) and bool((BASE_SETS[wanted] & BASE_SETS[letters]).all())


def _difference(variant: Variant, there: str) -> tuple[str, str]:
    """What the allele and the genome have; of long ones the part about the first letter that differs."""
    own = variant.reference
    if len(own) <= LONGEST_TOLD:
        return own, there
    letters = zip(ascii_of(own), ascii_of(there), strict=True)
    first = next(i for i, (a, b) in enumerate(letters) if not BASE_SETS[a] & BASE_SETS[b])
    shown = slice(max(first - 5, 0), first + 6)
    return f"…{own[shown]}…", f"…{there[shown]}…"


def _cause(wrong: Sequence[Variant], genome: Genome) -> str:
    """What would make most of them agree."""
    shown = wrong[:200]

    def share(allele, shift: int = 0) -> float:
        hits = 0
        for variant in shown:
            start = variant.position + shift
            there = genome.fetch(variant.chrom, start, start + len(allele(variant)), pads=True)
            hits += _agrees(allele(variant), there)
        return hits / len(shown)

    if share(lambda v: v.alternative) > 0.9:
        return "; their alternative alleles agree: the two are swapped"
    if len(shown) > 3:
        for shift, said in ((1, "one base later: they are counted from 0"), (-1, "one base earlier")):
            if share(lambda v: v.reference, shift) > 0.9:
                return f"; they agree {said}"
        if share(lambda v: text_of(complement(ascii_of(v.reference)))) > 0.9:
            return "; their complements agree: the alleles are those of the other strand"
    return "; is it another assembly?"
