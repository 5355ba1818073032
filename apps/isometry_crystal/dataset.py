"""Records of crystals to graphs and batches, what the training set teaches before training, and the split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from isometry_data.crystals import CrystalRecord, neighbours
from torch import Tensor
from torch_geometric.data import Batch, Data

from isometry_crystal.table import opposite_edges

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))  # xx yy zz yz xz xy
NAME_WIDTH = 24  # bytes of a group's name that travel with a graph


class CrystalGraph(Data):
    """A structure as PyG data; unknown labels are NaN.

    z [n], pos [n, 3] Å, cell [1, 3, 3] Å, edge_index [2, E] sorted by centre, edge_shift [E, 3] lattice vectors,
    edge_reverse [E] the position of the opposite edge, energy [1] eV, forces [n, 3] eV/Å, stress [1, 3, 3] eV/Å³,
    n_atoms [1], index [1] in its data set, group [1, NAME_WIDTH] and system [1, NAME_WIDTH] names as bytes.
    """

    def __inc__(self, key: str, value: Any, *args: Any, **kwargs: Any) -> Any:
        if key == "edge_reverse":
            return self.num_edges
        return 0 if key == "index" else super().__inc__(key, value, *args, **kwargs)


class CrystalDataset:
    """Graphs of records, an indexable sequence; a structure's neighbour list is computed once."""

    def __init__(self, records: Sequence[CrystalRecord], cutoff: float):
        self.records, self.cutoff = list(records), cutoff
        self._graphs: dict[int, CrystalGraph] = {}

    def __len__(self) -> int:
        return len(self.records)

    def name(self, index: int) -> str:
        """File and frame, for messages."""
        return self.records[index].label

    def __getitem__(self, index: int) -> CrystalGraph:
        if not 0 <= index < len(self.records):
            raise IndexError(f"structure {index} of a data set of {len(self.records)}")
        if index not in self._graphs:
            self._graphs[index] = graph_of(self.records[index], self.cutoff, index)
        return self._graphs[index]


def graph_of(record: CrystalRecord, cutoff: float, index: int = 0) -> CrystalGraph:
    """One record with its neighbours within the cutoff (Å)."""
    edge_index, edge_shift = (torch.from_numpy(part) for part in neighbours(record, cutoff))
    reverse = opposite_edges(edge_index, edge_shift)
    if bool((reverse < 0).any()):  # rounding: one way the pair lies at the cutoff, the other way beyond; it weighs 0
        kept = reverse >= 0
        edge_index, edge_shift = edge_index[:, kept], edge_shift[kept]
        reverse = opposite_edges(edge_index, edge_shift)
    return CrystalGraph(
        z=torch.from_numpy(record.numbers),
        pos=torch.from_numpy(record.positions),
        cell=torch.from_numpy(record.cell).unsqueeze(0),
        edge_index=edge_index,
        edge_shift=edge_shift,
        edge_reverse=reverse,
        n_atoms=torch.tensor([record.n_atoms]),
        index=torch.tensor([index]),
        group=name_bytes(str(record.info.get("config_type", ""))),
        system=name_bytes(system_of(record)),
        **labels_of(record),
    )


def labels_of(record: CrystalRecord) -> dict[str, Tensor]:
    """Energy, forces and stress, NaN where the record does not know them."""
    unknown = torch.full((record.n_atoms, 3), torch.nan, dtype=torch.float64)
    stress = torch.full((1, 3, 3), torch.nan, dtype=torch.float64)
    if record.stress is not None:
        for (a, b), value in zip(VOIGT, record.stress.tolist(), strict=True):
            stress[0, a, b] = stress[0, b, a] = value
    energy = torch.nan if record.energy is None else record.energy
    return {
        "energy": torch.tensor([energy], dtype=torch.float64),
        "forces": unknown if record.forces is None else torch.from_numpy(record.forces),
        "stress": stress,
    }


def collate(graphs: list[CrystalGraph]) -> Batch:
    return Batch.from_data_list(graphs)  # type: ignore[arg-type]


def system_of(record: CrystalRecord) -> str:
    """The chemical system: the symbols of its elements, such as "Mo-Nb"."""
    from ase.data import chemical_symbols

    return "-".join(sorted(chemical_symbols[number] for number in set(record.numbers.tolist())))


def name_bytes(name: str) -> Tensor:
    """[1, NAME_WIDTH] uint8, so that names can travel as rows of a measurement."""
    padded = name.encode()[:NAME_WIDTH].ljust(NAME_WIDTH, b"\0")
    return torch.frombuffer(bytearray(padded), dtype=torch.uint8).unsqueeze(0)


def names_of(rows: np.ndarray) -> list[str]:
    """The inverse of `name_bytes` for [n_records, NAME_WIDTH]."""
    return [bytes(row.astype(np.uint8)).rstrip(b"\0").decode(errors="ignore") for row in rows]


# What the training set says before training: part of the model's settings, so that a checkpoint is complete


def statistics(dataset: CrystalDataset) -> dict[str, Any]:
    """`elements`, `energy_offsets`, `scale` and `mean_neighbours` of a training set, for the model's settings."""
    elements = elements_of(dataset.records)
    return {
        "elements": elements,
        "energy_offsets": energy_offsets(dataset.records, elements),
        "scale": force_scale(dataset.records),
        "mean_neighbours": mean_neighbours(dataset),
    }


def elements_of(records: Sequence[CrystalRecord]) -> tuple[int, ...]:
    return tuple(sorted({number for record in records for number in record.numbers.tolist()}))


def energy_offsets(records: Sequence[CrystalRecord], elements: Sequence[int]) -> tuple[float, ...]:
    """eV per atom of each element: least squares of the energies per atom on the composition.

    Compositions that cannot tell the elements apart (a single compound) give the solution of smallest norm, which is
    right for that composition. Without any energy the offsets are zero.
    """
    known = [record for record in records if record.energy is not None]
    if not known:
        return (0.0,) * len(elements)
    counts = np.array([[np.count_nonzero(record.numbers == number) for number in elements] for record in known])
    n_atoms = counts.sum(1, keepdims=True)
    energies = np.array([[record.energy] for record in known])
    solution, *_ = np.linalg.lstsq(counts / n_atoms, energies / n_atoms, rcond=1e-8)
    return tuple(solution[:, 0].tolist())


def force_scale(records: Sequence[CrystalRecord]) -> float:
    """The root mean square force component in eV/Å, as the size in eV of an atom's energy; 1 without forces."""
    forces = [record.forces for record in records if record.forces is not None]
    scale = float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else 0.0
    return scale if scale > 1e-3 else 1.0


def mean_neighbours(dataset: CrystalDataset) -> float:
    """Edges per atom, at least 1."""
    n_edges = sum(dataset[index].num_edges for index in range(len(dataset)))
    return max(n_edges / max(sum(record.n_atoms for record in dataset.records), 1), 1.0)


# The split


class Split(NamedTuple):
    train: list[CrystalRecord]
    valid: list[CrystalRecord]
    test: list[CrystalRecord]


def split_records(
    records: Sequence[CrystalRecord], valid: float = 0.1, test: float = 0.1, seed: int = 0, block: int = 6
) -> Split:
    """The records' own split where the file has one (`split`: train, valid, test), else by blocks.

    A file's own split is kept as it is; what it lacks (a published train and test without validation) is held out of
    its training part. Never are frames of one parent drawn one by one, see `blocks_of`.

    Args:
        valid, test: fractions of the frames to hold out where the file does not say.
    """
    names = {"train": "train", "valid": "valid", "val": "valid", "validation": "valid", "test": "test"}
    given = [names.get(str(record.info.get("split", "train"))) for record in records]
    if None in given:
        bad = records[given.index(None)]
        raise ValueError(f"{bad.label}: split is {bad.info['split']!r}, expected train, valid or test")
    parts = {name: [r for r, g in zip(records, given, strict=True) if g == name] for name in ("train", "valid", "test")}
    if not parts["test"] and test > 0:
        parts["train"], parts["test"] = hold_out(parts["train"], test, seed, block)
    if not parts["valid"] and valid > 0:
        parts["train"], parts["valid"] = hold_out(parts["train"], valid, seed + 1, block)
    return Split(**parts)


def hold_out(
    records: Sequence[CrystalRecord], fraction: float, seed: int, block: int
) -> tuple[list[CrystalRecord], list[CrystalRecord]]:
    """(rest, held out): whole blocks, drawn in an order fixed by the seed until the fraction is reached.

    Every kind of structure (system and config_type) gives its share; a kind of a single block gives nothing.
    """
    rng, held = np.random.default_rng(seed), set()
    for blocks in blocks_of(records, block).values():
        wanted = fraction * sum(len(members) for members in blocks)
        for number in rng.permutation(len(blocks))[: len(blocks) - 1]:
            if len(blocks[number]) <= 1.5 * wanted:
                held.update(blocks[number])
                wanted -= len(blocks[number])
    return (
        [record for index, record in enumerate(records) if index not in held],
        [record for index, record in enumerate(records) if index in held],
    )


def blocks_of(records: Sequence[CrystalRecord], block: int) -> dict[tuple[str, str], list[list[int]]]:
    """Indices of records that belong together, by kind.

    `group` in the file names the parent, and its frames form one block. Without it, consecutive frames of one
    trajectory or strain path (same system, config_type, temperature_K, strain_mode, size) are cut into blocks of
    `block` frames: neighbours in time stay on one side.
    """
    parents: dict[tuple[Any, ...], list[int]] = {}
    for index, record in enumerate(records):
        parents.setdefault(_parent(record), []).append(index)
    kinds: dict[tuple[str, str], list[list[int]]] = {}
    for key, members in parents.items():
        size = len(members) if key[2] is not None else block
        cut = [members[start : start + size] for start in range(0, len(members), size)]
        kinds.setdefault(key[:2], []).extend(cut)
    return kinds


def _parent(record: CrystalRecord) -> tuple[Any, ...]:
    info = record.info
    kind = (system_of(record), str(info.get("config_type", "")))
    if "group" in info:
        return *kind, str(info["group"])
    return *kind, None, info.get("temperature_K"), info.get("strain_mode"), record.n_atoms, record.source
