"""Eight states and their sums: temperatures, labels of either kind, and what calibration is told."""

import numpy as np
import pytest
import torch
from isometry.calibrate import fit_temperature
from isometry_data.protein_records import EIGHT_STATES, THREE_OF_EIGHT, three_states
from isometry_protein.states import class_logits, groups_of, logits_within, state_logs
from torch import nn

LOGITS = torch.randn(500, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
GROUPS = groups_of("GHI/EB")


class Divided(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        return x / self.by


@pytest.mark.parametrize("mapping", THREE_OF_EIGHT)
def test_classes_are_those_of_the_records(mapping):
    assert "".join("HEC"[g] for g in groups_of(mapping)) == three_states(EIGHT_STATES, mapping)


@pytest.mark.parametrize(("of_classes", "of_states"), [(1.0, 1.0), (2.5, 0.4), (0.5, 3.0)])
def test_three_are_the_sums_of_eight_at_any_temperature(of_classes, of_states):
    log3, log8 = state_logs(LOGITS, GROUPS, Divided(of_classes), Divided(of_states))
    sums = torch.zeros_like(log3).index_add(1, GROUPS, log8.exp())
    torch.testing.assert_close(sums, log3.exp())
    torch.testing.assert_close(sums.sum(1), torch.ones(500, dtype=torch.float64))


def test_without_temperature_eight_are_the_plain_softmax():
    _, log8 = state_logs(LOGITS, GROUPS, nn.Identity(), nn.Identity())
    torch.testing.assert_close(log8, LOGITS.log_softmax(-1))


def test_both_temperatures_are_found_apart():
    rng, n = np.random.default_rng(0), 20_000
    logits = torch.from_numpy(rng.normal(size=(n, 8)) * 2)
    _, log8 = state_logs(logits, GROUPS, Divided(2.0), Divided(0.5))
    ss8 = torch.multinomial(log8.exp(), 1, generator=torch.Generator().manual_seed(0)).squeeze(1)
    assert fit_temperature(class_logits(logits, GROUPS), GROUPS[ss8]).temperature == pytest.approx(2.0, rel=0.05)
    assert fit_temperature(logits_within(logits, GROUPS, ss8), ss8).temperature == pytest.approx(0.5, rel=0.05)


def test_calibration_of_states_looks_within_their_class():
    labels = torch.tensor([EIGHT_STATES.index("E"), -1])
    within = logits_within(LOGITS[:2], GROUPS, labels)
    assert [state for state, logit in zip(EIGHT_STATES, within[0], strict=True) if logit.isfinite()] == ["B", "E"]
    torch.testing.assert_close(within[1], LOGITS[1])
