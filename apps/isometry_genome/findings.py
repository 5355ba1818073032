"""What the genome app adds to a run's report: the model beside rules, short contexts and other baselines."""

from __future__ import annotations

from typing import Any

import numpy as np
from isometry.app import Data, Findings

from isometry_genome.dataset import GrammarDataset
from isometry_genome.grammar import RULES, accuracy_of
from isometry_genome.predict import of_dataset

Table = list[dict[str, Any]]


def findings(model: Any, settings: Any, data: Data) -> Findings:
    """Tables of a trained model; the test set is used only if there is one."""
    tables: dict[str, Table] = {}
    if isinstance(data.test, GrammarDataset) and "classes" in settings.model.heads:
        tables["Test set beside rules"] = beside_rules(model, data.test)
    return Findings(tables)


def beside_rules(model: Any, windows: GrammarDataset) -> Table:
    """Accuracy of the model, and of every rule by computation."""
    found = np.array([own.classes for own in of_dataset(model, windows)])
    labels = np.array([int(windows[i].label) for i in range(len(windows))])
    rows: Table = [{"what": f"rule: {name}", "accuracy": accuracy_of(rule)} for name, rule in RULES.items()]
    return [*rows, {"what": "model", "accuracy": float((found.argmax(1) == labels).mean())}]
