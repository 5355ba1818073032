"""A sequence decoder in four schools: fed the truth, fed itself, or the truth ever less often.

A damped oscillator turns and shrinks by the same matrix in every step; the decoder is a matrix, too, so the right
answer is known. It begins at the true state and writes what follows. In training it sees the truth through noise; what
it is fed, its own last output or the (noisy) truth, is all that differs between the schools. Afterwards each writes
alone, as it would in use, and is compared with the oscillator itself.

    python examples/decoder.py    # about ten seconds on one core
"""

from __future__ import annotations

import argparse
import math
from statistics import fmean, stdev
from typing import NamedTuple

import torch
from isometry.curriculum import CurriculumSettings, level_at
from isometry.sampling import SamplingSettings, Start, decode, error_by_step, exposure_gap, forcing_at, free_run
from torch import Tensor, nn

TURN, DAMPING = 0.4, 0.03  # a step: radians, and ln of what the amplitude loses
N_STEPS = 20
TOLD = (1, 5, 10, 20)  # steps whose error is told
# The truth is fed always at first; from 3/4 of the training on the decoder hears only itself.
STAGES = CurriculumSettings(levels=(1e-3, 1.0), begins=(0.0, 0.75), growth="linear")


class School(NamedTuple):
    """How a decoder is trained."""

    schedule: str
    through: bool = True
    """Whether gradients flow along outputs that are fed back; published without."""


SCHOOLS = {
    "teacher forcing": School("forced"),
    "free running": School("free"),
    "scheduled": School("linear"),
    "scheduled, no gradient": School("linear", through=False),
}


def oscillator() -> Tensor:
    """[2, 2] one step: (position, velocity) -> the next, in units in which both swing by 1."""
    c, s = math.cos(TURN), math.sin(TURN)
    return math.exp(-DAMPING) * torch.tensor([[c, s], [-s, c]])


def swings(n: int, generator: torch.Generator) -> Tensor:
    """[n, 1 + N_STEPS, 2] from random phases, without noise."""
    phase = 2 * math.pi * torch.rand(n, 1, generator=generator)
    states = [torch.cat([phase.cos(), phase.sin()], dim=1)]
    for _ in range(N_STEPS):
        states.append(states[-1] @ oscillator().T)
    return torch.stack(states, dim=1)


def step_of(decoder: nn.Linear):
    return lambda state, previous: (state, decoder(previous))


def trained(school: School, seed: int, noise: float, n_updates: int) -> nn.Linear:
    torch.manual_seed(seed)
    generator, coins = torch.Generator().manual_seed(2 * seed), torch.Generator().manual_seed(2 * seed + 1)
    decoder = nn.Linear(2, 2, bias=False)
    optimizer = torch.optim.Adam(decoder.parameters(), 3e-2)
    settings = SamplingSettings.model_validate({"schedule": school.schedule})
    for update in range(n_updates):
        clean = swings(32, generator)
        seen = clean[:, 1:] + noise * torch.randn(clean[:, 1:].shape, generator=generator)
        forcing = forcing_at(level_at(update / n_updates, STAGES), settings)
        written = decode(step_of(decoder), Start(None, clean[:, 0]), seen, forcing, coins, through=school.through)
        optimizer.zero_grad()
        (written - seen).square().mean().backward()
        optimizer.step()
    return decoder


class Judged(NamedTuple):
    forced: float
    """Mean squared error on new swings seen through noise, fed what is seen; the noise's own is part of it."""
    free: float
    """The same of a decoder that hears itself."""
    by_step: list[float]
    """Root mean square error of the latter against the swings without noise, after each of `TOLD` steps."""

    @property
    def gap(self) -> float:
        return self.free - self.forced


def judged(decoder: nn.Linear, noise: float) -> Judged:
    generator = torch.Generator().manual_seed(99)
    clean = swings(1000, generator)
    start, seen = Start(None, clean[:, 0]), clean[:, 1:] + noise * torch.randn(1000, N_STEPS, 2, generator=generator)
    exposure = exposure_gap(step_of(decoder), start, seen, lambda written, seen: (written - seen).square())
    with torch.no_grad():
        errors = error_by_step(free_run(step_of(decoder), start, N_STEPS), clean[:, 1:])
    return Judged(exposure.forced, exposure.free, [errors[step - 1].item() for step in TOLD])


def compared(noise: float, n_updates: int, n_seeds: int) -> dict[str, list[Judged]]:
    """Every school, seed by seed."""
    return {
        name: [judged(trained(school, seed, noise, n_updates), noise) for seed in range(n_seeds)]
        for name, school in SCHOOLS.items()
    }


def print_comparison(found: dict[str, list[Judged]]) -> None:
    columns = ["loss, fed", "loss, alone", "exposure gap", *(f"error at {step}" for step in TOLD)]
    print(f"{'':24}" + "".join(f"{column:>18}" for column in columns))
    for name, runs in found.items():
        numbers = [[run.forced, run.free, run.gap, *run.by_step] for run in runs]
        print(f"{name:24}" + "".join(f"{_mean_and_scatter(list(column)):>18}" for column in zip(*numbers, strict=True)))


def _mean_and_scatter(numbers: list[float]) -> str:
    return f"{fmean(numbers):.4f} ± {stdev(numbers) if len(numbers) > 1 else math.nan:.4f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.3, 0.0], help="standard deviations to try")
    parser.add_argument("--updates", type=int, default=150, help="steps of training")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for noise in options.noise:
        print(f"\nnoise {noise:g}, mean and standard deviation over {options.seeds} seeds")
        print_comparison(compared(noise, options.updates, options.seeds))


if __name__ == "__main__":
    main()
