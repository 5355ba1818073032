"""Residues per second, training and prediction, against the usual nn.LSTM over packed sequences; and memory.

    python benchmarks/protein_speed.py             # about two minutes on one core
    python benchmarks/protein_speed.py --memory    # peak memory of a prediction against length; half a minute

Both sides are the network of preset netsurfp2 (embedding, convolution, two bidirectional layers of width 256, heads for
states and disorder) on the same batches of chains with the lengths of real ones, with AdamW and the same loss. They
differ in the recurrent part alone: ours, with layer norm and residual paths, and `nn.LSTM(bidirectional=True)` between
`pack_padded_sequence` and `pad_packed_sequence`, behind a linear layer that gives it as many parameters as ours has but
for the norms. The sides take turns batch by batch in one process and one thread; the time is CPU time of the process,
so that a busy machine disturbs it little. Prints the median of residues per second (padding does not count), and of
the ratio, with that of each batch, from few long chains to many short ones.

With --memory each prediction has a process of its own; told is the growth of the largest resident size over that of
the process before, model and libraries loaded.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from isometry.lengths import in_batches
from isometry.randomness import seed_everything
from isometry_protein.dataset import Protein, ProteinDataset, collate
from isometry_protein.model import ModelSettings, ProteinModel
from isometry_protein.objective import objective_of
from isometry_protein.predict import predictions
from isometry_protein.simulate import simulated
from isometry_protein.train import PRESETS
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

N_BATCHES, N_WARM, TOKENS = 6, 1, 8192
LENGTHS = (250, 1000, 4000, 16_000, 34_350)
MIB = 1 << 10  # ru_maxrss counts KiB

PRESET = PRESETS["netsurfp2"]


class Packed(nn.Module):
    """What a tutorial would write."""

    def __init__(self, n_in: int, s: ModelSettings):
        super().__init__()
        self.n_out = 2 * s.width
        self.entry = nn.Linear(n_in, self.n_out)
        self.lstm = nn.LSTM(self.n_out, s.width, s.n_layers, batch_first=True, bidirectional=True, dropout=s.dropout)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.entry(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=x.shape[1])[0]

    def read_in_chunks(self, x: Tensor, _size: int) -> Tensor:
        return self(x, torch.tensor([x.shape[1]]))


def network(is_ours: bool) -> ProteinModel:
    seed_everything(0)
    model = ProteinModel(PRESET.model)
    if not is_ours:
        model.recurrent = Packed(PRESET.model.embedding + PRESET.model.stem, PRESET.model)  # type: ignore[assignment]
    return model


def batches() -> list[Protein]:
    """Lengths as in NetSurfP-2.0's training set: median 218, a tenth below 97 and above 452; batches by length."""
    lengths = np.exp(np.random.default_rng(0).normal(np.log(218), 0.63, 400)).clip(20, 1500).astype(int)
    proteins = ProteinDataset([simulated(1, seed, int(n), int(n))[0] for seed, n in enumerate(lengths)])
    made = list(in_batches(proteins, np.arange(len(proteins)), len(proteins), TOKENS))
    chosen = np.linspace(0, len(made) - 1, N_BATCHES + N_WARM).astype(int)
    return [collate([proteins[int(i)] for i in made[k]]) for k in np.roll(chosen, N_WARM)]


def trained(model: ProteinModel) -> Callable[[Protein], None]:
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loss = objective_of(PRESET.loss, PRESET.model).loss

    def step(batch: Protein) -> None:
        model.train()
        optimizer.zero_grad()
        loss(model, batch).each.mean().backward()
        optimizer.step()

    return step


def asked(model: ProteinModel) -> Callable[[Protein], None]:
    def answer(batch: Protein) -> None:
        model.eval()
        with torch.no_grad():
            model(batch.letters, batch.length)

    return answer


def speeds(work: list[Callable[[Protein], None]], given: list[Protein]) -> np.ndarray:
    """[2, N_BATCHES] residues per second of CPU time."""
    found = []
    for batch in given:
        times = []
        for do in work:
            before = time.process_time()
            do(batch)
            times.append(time.process_time() - before)
        found.append(int(batch.length.sum()) / np.array(times))
    return np.array(found[N_WARM:]).T


def compare() -> None:
    ours, peer = network(True), network(False)
    counts = [sum(p.numel() for p in model.parameters()) for model in (ours, peer)]
    given = batches()
    sizes = ", ".join("×".join(map(str, batch.letters.shape)) for batch in given[N_WARM:])
    print(f"parameters: ours {counts[0]:,}, packed {counts[1]:,}; batches (chains × residues): {sizes}")
    print(f"{'':<12}{'ours residues/s':>17}{'packed residues/s':>19}{'ratio':>8}   by batch")
    for name, of in (("training", trained), ("prediction", asked)):
        own, other = speeds([of(ours), of(peer)], given)
        ratios = own / other
        print(
            f"{name:<12}{np.median(own):>17,.0f}{np.median(other):>19,.0f}"
            f"{np.median(ratios):>8.1f}   {', '.join(f'{ratio:.1f}' for ratio in ratios)}",
            flush=True,
        )


def remembered(length: int, is_ours: bool) -> None:
    """In a process of its own: prints MiB and seconds of CPU time."""
    model = network(is_ours)
    predictions(model, simulated(1, 0, 50, 50))
    (record,) = simulated(1, 1, length, length)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    predictions(model, [record])
    seconds = time.process_time() - began
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / MIB, seconds)


def memory() -> None:
    print(f"{'residues':>9}{'ours MiB':>10}{'seconds':>9}{'packed MiB':>12}{'seconds':>9}")
    for length in LENGTHS:
        line = f"{length:>9,}"
        for side, width in (("ours", 10), ("packed", 12)):
            command = [sys.executable, __file__, "--one", str(length), "--side", side]
            told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
            line += f"{float(told[0]):>{width}.0f}{float(told[1]):>9.2f}"
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="peak memory against length, instead of speed")
    parser.add_argument("--one", type=int, metavar="LENGTH", help="what --memory runs for each length")
    parser.add_argument("--side", choices=["ours", "packed"], default="ours")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one is not None:
        remembered(options.one, options.side == "ours")
    elif options.memory:
        memory()
    else:
        compare()


if __name__ == "__main__":
    main()
