"""Sequences in; calibrated probabilities out, residue by residue, as a table or in the field's own formats."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from isometry.durable import write_whole
from isometry.lengths import in_batches
from isometry_data.protein_records import EIGHT_STATES, THREE_STATES, ProteinRecord
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from isometry_protein.contacts import ContactHead, ContactMap, contact_map
from isometry_protein.dataset import ProteinDataset
from isometry_protein.formats import as_fasta, as_horiz, as_npz, as_rr, as_ss2, as_states
from isometry_protein.letters import PAD, letters_of
from isometry_protein.model import ModelSettings, ProteinModel, names_of_classes, names_of_values
from isometry_protein.pictures import PICTURES, SIDE, Page, as_pictures

RESIDUES_AT_ONCE = 16_384
"""Padded residues of one batch: bounds the memory, whatever the number of proteins."""
LIKELY = 0.1
"""The least probability of a contact that is written."""
OWN_FORMATS = (".ss2", ".horiz", ".fasta", ".ss", ".npz", ".rr", *PICTURES)


class Prediction(NamedTuple):
    """What a model says of one protein of n residues; None where it has no such head."""

    three: np.ndarray | None
    """[n, 3] probabilities of H, E, C"""
    eight: np.ndarray | None
    """[n, 8] probabilities of GHIBESTC; None where training labels told three states alone"""
    accessibility: np.ndarray | None
    """[n] relative"""
    disorder: np.ndarray | None
    """[n] probability"""
    values: np.ndarray | None
    """[n_values] of the whole protein"""
    classes: np.ndarray | None
    """[n_classes] probabilities of the whole protein"""
    embedding: np.ndarray | None = None
    """[n, n_features] float32, where asked for"""

    @property
    def states(self) -> str:
        """The most probable of H, E, C at each residue."""
        if self.three is None:
            raise ValueError("this model has no head for secondary structure (ss)")
        return "".join(THREE_STATES[state] for state in self.three.argmax(1))


def predictions(model: nn.Module, records: list[ProteinRecord], *, with_embedding: bool = False) -> list[Prediction]:
    """One prediction per protein, in order. Proteins of any length; the model stays where it is."""
    assert isinstance(model, ProteinModel)
    model.eval()
    found: dict[int, Prediction] = {}
    for indices in in_batches(_Lengths(records), np.arange(len(records)), 1, RESIDUES_AT_ONCE):
        for index, prediction in zip(
            indices, _of_batch(model, [records[i] for i in indices], with_embedding), strict=True
        ):
            found[int(index)] = prediction
    return [found[index] for index in range(len(records))]


def contacts(model: nn.Module, record: ProteinRecord, least: float = LIKELY) -> tuple[np.ndarray, np.ndarray]:
    """Pairs [n, 2] of positions from 0, and their probabilities [n], the most probable first."""
    assert isinstance(model, ProteinModel)
    model.eval()
    head, pairs, probabilities = _contact_head(model), [], []
    with torch.no_grad():
        features = model.encode(*_batch([record], model))
        for own, logits in head.blocks(features):
            p = model.temperatures["contact"](logits.float()).sigmoid()
            pairs.append(own[1:, p >= least].T.cpu())
            probabilities.append(p[p >= least].cpu())
    every, p = torch.cat([torch.zeros(0, 2, dtype=torch.long), *pairs]), torch.cat([torch.zeros(0), *probabilities])
    order = p.argsort(descending=True, stable=True)
    return every[order].numpy(), p[order].double().numpy()


def predict(model: nn.Module, _settings: Any, proteins: ProteinDataset, out: Path | None) -> list[dict[str, Any]]:
    """A row per residue, or per protein where the model has no head for residues; `out` in its own format, too."""
    records = proteins.records
    if out is not None and out.suffix in (".png", ".svg") and len(records) != 1:
        raise ValueError(f"{out}: shows one protein, and there are {len(records)}; choose .pdf, with a page for each")
    if out is not None and out.suffix == ".npz":
        _check_names(out, records)
    assert isinstance(model, ProteinModel)
    if out is not None and out.suffix == ".rr":
        _contact_head(model)  # known before work begins
    found = predictions(model, records, with_embedding=out is not None and out.suffix == ".npz")
    if out is not None:
        write_whole(out, _encoded(out.suffix, model, records, found))
    pairs = enumerate(zip(records, found, strict=True), start=1)
    return [row for number, (record, of) in pairs for row in _rows(number, record, of, model.settings)]


def _check_names(out: Path, records: list[ProteinRecord]) -> None:
    """An archive has one array of a name."""
    seen: dict[str, ProteinRecord] = {}
    for record in records:
        if record.name in seen:
            raise ValueError(
                f"{record.label}: named as the one of {seen[record.name].label}, and {out} keeps one array for each "
                "name; rename one of them"
            )
        seen[record.name] = record


def _encoded(ending: str, model: nn.Module, records: list[ProteinRecord], found: list[Prediction]) -> bytes:
    if ending in PICTURES:
        pairs = zip(records, found, strict=True)
        return as_pictures(ending, (Page(record, of, _contact_map(model, record)) for record, of in pairs))
    if ending == ".rr":
        return as_rr([(record, *contacts(model, record)) for record in records])
    if ending == ".npz":
        return as_npz({record.name: _embedding(of) for record, of in zip(records, found, strict=True)})
    write = {".ss2": as_ss2, ".horiz": as_horiz, ".fasta": as_fasta, ".ss": as_states}[ending]
    return write([(record, of.states, _three(of)) for record, of in zip(records, found, strict=True)])


def _three(prediction: Prediction) -> np.ndarray:
    assert prediction.three is not None
    return prediction.three


def _embedding(prediction: Prediction) -> np.ndarray:
    assert prediction.embedding is not None
    return prediction.embedding


def _contact_map(model: nn.Module, record: ProteinRecord) -> ContactMap | None:
    assert isinstance(model, ProteinModel)
    if "contacts" not in model.heads:
        return None
    with torch.no_grad():
        features = model.encode(*_batch([record], model))
        return contact_map(_contact_head(model), features, model.temperatures["contact"], SIDE)


def _contact_head(model: ProteinModel) -> ContactHead:
    if "contacts" not in model.heads:
        raise ValueError("this model has no head for contacts; train with --model.heads ss contacts, on structures")
    head = model.heads["contacts"]
    assert isinstance(head, ContactHead)
    return head


class _Lengths(NamedTuple):
    records: list[ProteinRecord]

    def __len__(self) -> int:
        return len(self.records)

    def length(self, index: int) -> int:
        return len(self.records[index])


def _batch(records: list[ProteinRecord], model: ProteinModel) -> tuple[Tensor, Tensor]:
    device = next(model.parameters()).device
    letters = [letters_of(record.sequence) for record in records]
    lengths = torch.tensor([len(own) for own in letters])
    return pad_sequence(letters, batch_first=True, padding_value=PAD).to(device), lengths.to(device)


def _of_batch(model: ProteinModel, records: list[ProteinRecord], with_embedding: bool) -> Iterator[Prediction]:
    with torch.no_grad():
        letters, lengths = _batch(records, model)
        features = model.encode(letters, lengths)
        said = _calibrated(model, model.said(features, lengths))
    said = {name: values.cpu().double().numpy() for name, values in said.items()}
    for row, record in enumerate(records):
        n = len(record)
        whole = {name: said[name][row] if name in said else None for name in ("values", "classes")}
        each = ("three", "eight", "accessibility", "disorder")
        own = {name: said[name][row, :n] if name in said else None for name in each}
        yield Prediction(**own, **whole, embedding=features[row, :n].float().cpu().numpy() if with_embedding else None)


def _calibrated(model: ProteinModel, said: dict[str, Tensor]) -> dict[str, Tensor]:
    told: dict[str, Tensor] = {}
    if "ss" in said:
        three, eight = (log.exp() for log in model.state_logs(said["ss"]))
        told |= {"three": three, "eight": eight} if model.settings.has_eight else {"three": three}
    if "rsa" in said:
        told["accessibility"] = said["rsa"]
    if "disorder" in said:
        told["disorder"] = model.temperatures["disorder"](said["disorder"]).sigmoid()
    if "regression" in said:
        told["values"] = said["regression"]
    if "classes" in said:
        told["classes"] = model.temperatures["class"](said["classes"]).softmax(-1)
    return told


def _rows(number: int, record: ProteinRecord, found: Prediction, of: ModelSettings) -> Iterator[dict[str, Any]]:
    whole: dict[str, Any] = {"record": number, "protein": record.name}
    end: dict[str, Any] = {}
    if found.values is not None:
        end |= {f"value_{name}": float(v) for name, v in zip(names_of_values(of), found.values, strict=True)}
    if found.classes is not None:
        names = names_of_classes(of)
        end["class"] = names[found.classes.argmax()]
        end |= {f"p_class_{name}": float(p) for name, p in zip(names, found.classes, strict=True)}
    if found.three is None and found.accessibility is None and found.disorder is None:
        yield whole | {"length": len(record)} | end
        return
    columns = _columns(found)
    for i, letter in enumerate(record.sequence):
        row = {name: values[i] for name, values in columns.items()}
        yield whole | {"position": i + 1, "residue": letter} | row | end


def _columns(found: Prediction) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    if found.three is not None:
        columns["ss3"] = list(found.states)
        columns |= {f"p_{state}": column for state, column in zip(THREE_STATES, found.three.T.tolist(), strict=True)}
    if found.eight is not None:
        columns["ss8"] = [EIGHT_STATES[state] for state in found.eight.argmax(1)]
        columns |= {f"p8_{state}": column for state, column in zip(EIGHT_STATES, found.eight.T.tolist(), strict=True)}
    for name in ("accessibility", "disorder"):
        values = getattr(found, name)
        if values is not None:
            columns[name] = values.tolist()
    return columns
