"""The preset of long range: what its curriculum asks of the windows; a stopped run goes on as if it had not been."""

import os
import signal

import pytest
import torch
from isometry.curriculum import Curriculum
from isometry.fit import Fit
from isometry.interrupt import Interrupted
from isometry.story import train
from isometry_genome.grammar import length_for
from isometry_genome.train import APP, PRESETS
from safetensors.torch import load_file

LONGRANGE = PRESETS["longrange"]


def test_nearer_stages_cost_what_the_preset_says():
    fit, distance = LONGRANGE.fit, LONGRANGE.data.distance
    levels = [Curriculum(fit.curriculum, fit.epochs).level(epoch) for epoch in range(fit.epochs)]
    lengths = [length_for(round(level * distance)) for level in levels]
    assert [lengths.count(length_for(distance) // share) for share in (64, 16, 4, 1)] == [18, 4, 3, 2]


@pytest.mark.slow
def test_a_run_stopped_within_its_curriculum_ends_with_the_weights_of_one_that_was_not(tmp_path, monkeypatch):
    settings = LONGRANGE.changed(
        data={"distance": 1000, "n_train": 4},
        model={"width": 16, "stem": 8},
        fit={"epochs": 4, "batch_size": 4, "evaluate_every": 4, "curriculum": {"levels": (0.5, 1.0), "begins": ()}},
    )
    train(APP, settings, tmp_path / "whole", is_quiet=True)
    close = Fit._close_epoch

    def stopped(fit):
        close(fit)
        if fit.position.epoch == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Fit, "_close_epoch", stopped)
        with pytest.raises(Interrupted):
            train(APP, settings, tmp_path / "stopped", is_quiet=True)
    train(APP, settings, tmp_path / "stopped", is_quiet=True)
    whole, gone_on = (_last_weights(tmp_path / name) for name in ("whole", "stopped"))
    assert whole.keys() == gone_on.keys()
    assert all(torch.equal(whole[name], gone_on[name]) for name in whole)


def _last_weights(run):
    last = max((run / "checkpoints").iterdir(), key=lambda folder: folder.stat().st_mtime)
    return load_file(last / "weights.safetensors")
