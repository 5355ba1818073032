"""Small protein networks, and proteins with every label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from isometry.randomness import seed_everything
from isometry_data.protein_records import AMINO_ACIDS, EIGHT_STATES, ProteinRecord, three_states
from isometry_protein.dataset import ProteinDataset, collate
from isometry_protein.model import ModelSettings, ProteinModel

torch.set_num_threads(1)

ALL = ("ss", "rsa", "disorder", "contacts", "regression", "classes", "language")
WHOLE = {"n_values": 2, "n_classes": 3, "value_means": (0.0, 1.0), "value_scales": (1.0, 2.0)}


@pytest.fixture
def make_model() -> Callable[..., ProteinModel]:
    """`make_model(heads=…)`: a small network in float64, evaluating."""

    def make(**changes: Any) -> ProteinModel:
        seed_everything(0)
        small = {"width": 7, "embedding": 5, "stem": 4, "kernel": 5, "rank": 3, "dropout": 0.0, "t_max": 30}
        return ProteinModel(ModelSettings(**{**small, **WHOLE, **changes})).double().eval()

    return make


@pytest.fixture
def make_record() -> Callable[..., ProteinRecord]:
    """`make_record(n, seed)`: a protein of n residues with random labels of every kind."""

    def make(n: int, seed: int = 0, **changes: Any) -> ProteinRecord:
        rng = np.random.default_rng(seed)
        ss8 = "".join(rng.choice(list(EIGHT_STATES), n))
        of: dict[str, Any] = {
            "name": f"p{seed}",
            "sequence": "".join(rng.choice(list(AMINO_ACIDS), n)),
            "source": "test",
            "ss8": ss8,
            "ss3": three_states(ss8),
            "accessibility": rng.random(n),
            "disorder": rng.random(n) < 0.3,
            "positions": rng.normal(size=(n, 3)) * 6,
        }
        return ProteinRecord(**{**of, **changes})

    return make


@pytest.fixture
def make_batch(make_record: Callable[..., ProteinRecord]) -> Callable[..., Any]:
    """`make_batch(9, 30, 17)`: proteins of these lengths, with every label, in float64."""

    def make(*lengths: int, **changes: Any) -> Any:
        records = [make_record(n, seed, **changes) for seed, n in enumerate(lengths)]
        values = {record.name: (float(i), -1.0) for i, record in enumerate(records)}
        kinds = {record.name: i % 3 for i, record in enumerate(records)}
        proteins = ProteinDataset(records, hidden=0.3, values=values, kinds=kinds)
        batch = collate([proteins[i] for i in range(len(proteins))])
        return type(batch)(*(v.double() if v.is_floating_point() else v for v in batch))

    return make
