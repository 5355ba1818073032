"""How much of a residue the solvent reaches, as a share of the most it could.

Surface: Shrake & Rupley, J. Mol. Biol. 79, 351 (1973), as Biopython has it, probe 1.4 Å, its radii. Scale: the
theoretical maxima of Tien, Meyer, Sydykova, Spielman & Wilke, PLoS ONE 8, e80635 (2013), table 1 (Biopython's "Wilke").
"""

from __future__ import annotations

import numpy as np

from isometry_data.structure_chains import StructureChain

POINTS = 100  # on each atom's sphere; twice as many change a residue's area by about 1 Å²


def relative_accessibility(chain: StructureChain, n_points: int = POINTS) -> np.ndarray:
    """[n] of the chain alone, as if nothing else were there; NaN where the residue is not seen or has no maximum.

    A value may pass 1 a little: the maxima are those of a residue within a tripeptide, an end shows more.
    """
    from Bio.Data.PDBData import protein_letters_1to3, residue_sasa_scales

    scale = residue_sasa_scales["Wilke"]
    most = [scale.get(protein_letters_1to3.get(letter, "").upper(), np.nan) for letter in chain.sequence]
    area = residue_areas(chain, n_points)
    return np.where(chain.is_seen, area / np.array(most), np.nan)


def residue_areas(chain: StructureChain, n_points: int = POINTS) -> np.ndarray:
    """[n] Å² of the chain alone; 0 where the residue is not seen."""
    from Bio.PDB.Atom import Atom
    from Bio.PDB.Chain import Chain
    from Bio.PDB.Residue import Residue
    from Bio.PDB.SASA import ShrakeRupley

    whole, residues, atoms = Chain("A"), {}, []
    rows = zip(chain.atom_residue.tolist(), chain.elements, chain.atom_positions, strict=True)
    for number, (place, element, position) in enumerate(rows):
        if place not in residues:
            residues[place] = Residue((" ", place + 1, " "), "UNK", "")
            whole.add(residues[place])
        name = f"{element}{number}"
        atoms.append(Atom(name, position, 0.0, 1.0, " ", name, number, element=element))
        residues[place].add(atoms[-1])
    ShrakeRupley(n_points=n_points).compute(whole, level="A")
    return np.bincount(chain.atom_residue, [atom.sasa for atom in atoms], minlength=len(chain.sequence))
