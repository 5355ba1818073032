"""What holds for every weight: other windows of a batch change nothing and, where asked for, both strands agree."""

from __future__ import annotations

from typing import Any

from isometry.symmetry import Outputs, Symmetry
from torch import nn

from isometry_genome.dataset import Window
from isometry_genome.letters import reverse_complement
from isometry_genome.model import GenomeModel, turned_outputs
from isometry_genome.objective import probabilities

TOLERANCE = 1e-4  # of the outputs' root mean square, in fp32


def symmetries(settings: Any) -> tuple[Symmetry, ...]:
    """The strands agree where the model has both, by averages or by its weights."""
    found = [
        Symmetry("order of the batch", _turned, outputs, _turned_outputs, TOLERANCE),
        Symmetry("company", _alone, outputs, _first_output, TOLERANCE),
    ]
    if settings.model.strands != "one":

        def expected(said: Outputs, _batch: Window) -> Outputs:
            return turned_outputs(said, settings.model)

        found.append(Symmetry("other strand", _other_strand, outputs, expected, TOLERANCE))
    return tuple(found)


def outputs(model: nn.Module, batch: Window) -> Outputs:
    """What each head says of each window."""
    assert isinstance(model, GenomeModel)
    return model(probabilities(batch.codes, model))


def _turned(batch: Window) -> Window:
    return Window(*(values.flip(0) for values in batch))


def _turned_outputs(said: Outputs, _batch: Window) -> Outputs:
    return {name: values.flip(0) for name, values in said.items()}


def _alone(batch: Window) -> Window:
    return Window(*(values[:1] for values in batch))


def _first_output(said: Outputs, _batch: Window) -> Outputs:
    return {name: values[:1] for name, values in said.items()}


def _other_strand(batch: Window) -> Window:
    """The bases alone: labels say nothing to a network."""
    return batch._replace(codes=reverse_complement(batch.codes))
