"""Capacity from samples of channels whose capacity is known: ours beside other estimators, on the same samples.

    python benchmarks/capacity_channels.py [--samples 100 500] [--seeds 1] [--first-seed 0] [--without-vectors]

Five channels (`isometry.information.channels`): Gaussian, with growing noise too, bimodal, heavy tail, time course.
Beside the cross-fitted decoder: nearest neighbours (k = 10), logistic regression in sample (what SLEMI does), and,
where scikit-learn is installed, support vectors (radial kernel, probabilities by Platt, five-fold cross-validated;
capacity with the input distribution chosen on the same samples, as in decoders published for time courses). Printed are
estimates, and per estimator the mean error (bias), the mean absolute error, and the cover of our intervals.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from isometry.information.bits import Array
from isometry.information.capacity_baselines import logistic_regression, nearest_neighbours
from isometry.information.channels import known_channels
from isometry.information.decoded import decode
from isometry.information.sampled_channel import SampledChannel
from isometry.information.standard_outputs import standardised

Estimator = Callable[[np.ndarray, Array], float]
OURS = "decoder"


def by_neighbours(x: np.ndarray, y: Array) -> float:
    return nearest_neighbours(x, standardised(y).plain).capacity


def by_logistic(x: np.ndarray, y: Array) -> float:
    return logistic_regression(x, standardised(y)).capacity


def by_support_vectors(x: np.ndarray, y: Array) -> float:
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    machine = CalibratedClassifierCV(make_pipeline(StandardScaler(), SVC(kernel="rbf")), cv=3, ensemble=False)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    told = cross_val_predict(machine, y, x, cv=folds, method="predict_proba")
    channel = SampledChannel(np.log(np.maximum(told, 1e-6)), x)
    return channel.information(channel.best_inputs())


def estimators(with_vectors: bool) -> dict[str, Estimator]:
    known: dict[str, Estimator] = {"neighbours": by_neighbours, "logistic": by_logistic}
    if with_vectors:
        try:
            import sklearn  # noqa: F401
        except ImportError:
            print("scikit-learn is not installed: no support vectors")
        else:
            known["support vectors"] = by_support_vectors
    return known


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--samples", type=int, nargs="+", default=[100, 500], help="of each input")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--without-vectors", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    others = estimators(not options.without_vectors)
    names = [OURS, *others]
    errors: dict[str, list[float]] = {name: [] for name in names}
    n_above, n_below = 0, 0
    print(f"{'channel':25s} {'n':>4s} {'truth':>7s}" + "".join(f"{name:>17s}" for name in names) + f"{'CPU s':>8s}")
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        for n in options.samples:
            for channel in known_channels():
                truth = channel.capacity().bits
                x, y = channel.sample(n, seed=1000 + seed)
                start = time.process_time()
                ours = decode(x, y, seed=seed).capacity()
                seconds = time.process_time() - start
                found = [ours.value, *(estimate(x, y) for estimate in others.values())]
                for name, value in zip(names, found, strict=True):
                    errors[name].append(value - truth)
                n_above, n_below = n_above + (truth > ours.high), n_below + (truth < ours.low)
                line = f"{channel.name:25s} {n:4d} {truth:7.3f}" + "".join(f"{value:17.3f}" for value in found)
                print(f"{line}{seconds:8.1f}", flush=True)
    for word, of in (("mean absolute error", np.abs), ("bias", np.asarray)):
        print(f"{word:38s}" + "".join(f"{np.mean(of(errors[name])):17.3f}" for name in names))
    n_all = len(errors[OURS])
    n_held = n_all - n_above - n_below
    print(f"our 95 % intervals hold the truth in {n_held} of {n_all}; {n_above} end below it, {n_below} begin above")


if __name__ == "__main__":
    main()
