"""The doctor in loops that are not ours: it is heard, and the training is bit for bit the one without it."""

import importlib.util
import math
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from isometry import doctor
from isometry.adapters.telling import examined
from isometry.adapters.watch import Watch
from isometry.doctor.findings import Finding
from torch import nn

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "adapters"
SAME_NUMBER = 1e-5  # relative: fp32


def needs(library: str):
    is_there = importlib.util.find_spec(library) is not None
    return pytest.mark.skipif(not is_there, reason=f"{library} is not installed: pip install 'isometry[{library}]'")


def perceptron():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))


def trained(optimizer_of, every, n_steps=12, accumulate=1, scaler=None, **options):
    """A plain loop; returns its weights, the watch and what it logged."""
    model = perceptron()
    optimizer = optimizer_of(model.parameters())
    logged = []
    watch = Watch(model, optimizer, every, tell=lambda line: None, log=logged.append, scaler=scaler, **options)
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    for _ in range(n_steps):
        optimizer.zero_grad()
        for _ in range(accumulate):
            scaler.scale(model(torch.randn(16, 8)).square().mean() / accumulate).backward()
        scaler.step(optimizer)
        scaler.update()
    return [p.detach().clone() for p in model.parameters()], watch, logged


# The plain loop


def sgd(parameters):
    return torch.optim.SGD(parameters, 1e-2)


def fused(parameters):
    return torch.optim.AdamW(parameters, 1e-3, fused=True)


@pytest.mark.parametrize("optimizer_of", [sgd, fused])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_watched_loop_is_the_same_loop(optimizer_of, accumulate):
    plain, _, none = trained(optimizer_of, 0, accumulate=accumulate)
    watched, watch, logged = trained(optimizer_of, 5, accumulate=accumulate)
    assert all(torch.equal(one, other) for one, other in zip(plain, watched, strict=True))
    assert (len(none), len(logged), watch.step) == (0, 3, 12), "looks at steps 1, 5 and 10"


@pytest.mark.parametrize("optimizer_of", [sgd, fused])
def test_gradients_are_told_unscaled(optimizer_of):
    scaled = trained(optimizer_of, 1, 1, scaler=torch.amp.GradScaler("cpu", init_scale=2.0**16))[2][0]
    plain = trained(optimizer_of, 1, 1)[2][0]
    assert scaled["scale"] == 2.0**16
    assert scaled["gradient/0"] == pytest.approx(plain["gradient/0"], SAME_NUMBER)


def test_a_step_by_closure_is_watched():
    model = perceptron()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=2)
    x = torch.randn(32, 8)

    def closure():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    with Watch(model, optimizer, every=1) as watch:
        optimizer.step(closure)
    assert watch.last.layers["0"]["update"] > 0
    assert watch.last.layers["0"]["gradient"] > 0


def test_a_validation_between_two_steps_is_not_taken_for_training():
    model = perceptron()
    optimizer = sgd(model.parameters())
    watch = Watch(model, optimizer, every=1)
    with torch.no_grad():
        model(1e6 * torch.ones(4, 8))
    model(torch.randn(16, 8)).mean().backward()
    optimizer.step()
    assert watch.last.layers["0"]["activation"] < 10


def test_a_closed_watch_leaves_no_hook():
    model = perceptron()
    optimizer = sgd(model.parameters())
    with Watch(model, optimizer, every=1):
        assert any(module._forward_hooks for module in model.modules())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_fatal_finding_ends_the_run_where_it_is_told_to():
    model = perceptron()
    with torch.no_grad():
        model[0].weight.fill_(math.nan)
    optimizer = sgd(model.parameters())
    Watch(model, optimizer, every=1, on_fatal="raise")
    model(torch.randn(4, 8)).mean().backward()
    with pytest.raises(ValueError, match="not finite in 0"):
        optimizer.step()


# The examination before the first step


@pytest.mark.parametrize("kind", [ValueError, KeyError, AttributeError, IndexError])
def test_a_network_that_cannot_be_examined_is_said_and_trained(kind):
    def loss(model, batch):
        raise kind("batch")

    said = []
    assert examined(nn.Linear(1, 1), torch.ones(2, 1), loss, said.append, "raise") is None
    assert said == [f"doctor: the network was not examined: {kind.__name__}: {kind('batch')}"]


def test_the_gravest_finding_is_told_first_and_may_end_the_run(monkeypatch):
    found = [Finding(kind, f"a {kind}", "0", 1.0, "Why.", "Do.") for kind in ("note", "fatal")]
    monkeypatch.setattr(doctor, "examine", lambda *_: SimpleNamespace(findings=found), raising=False)
    said = []
    examined(nn.Linear(1, 1), None, lambda model, batch: None, said.append, "warn")
    assert [line.split(": ")[1] for line in said] == ["fatal", "note"]
    with pytest.raises(ValueError, match=r"a fatal in 0: Why\. Do\."):
        examined(nn.Linear(1, 1), None, lambda model, batch: None, said.append, "raise")


# Lightning


def fitted(callbacks, precision="32-true", **module):
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.network, self.calls = perceptron(), []

        def training_step(self, batch, batch_idx):
            loss = self.network(batch[0]).square().mean()
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            self.calls.append(batch_idx)
            return {"loss": loss}

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), 1e-3)

    pl.seed_everything(0, verbose=False)
    data = torch.utils.data.TensorDataset(torch.randn(96, 8))
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", callbacks=callbacks, accumulate_grad_batches=2, precision=precision, **quiet
    )
    model = Module()
    trainer.fit(model, torch.utils.data.DataLoader(data, 8, shuffle=True))
    return model, trainer


@needs("lightning")
@pytest.mark.filterwarnings("ignore")
def test_a_lightning_run_with_the_doctor_is_the_same_run():
    from isometry.adapters.lightning import DoctorCallback

    said = []
    callback = DoctorCallback(every=5, tell=said.append)
    plain, _ = fitted([])
    watched, trainer = fitted([callback])
    for one, other in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
    assert trainer.callback_metrics.keys() == {"train_loss", "train_loss_step", "train_loss_epoch"}
    assert not any("not examined" in line for line in said), said
    assert callback.examination is not None
    assert len(watched.calls) > len(plain.calls), "examined through its training_step"
    assert {"network.0", "network.2"} <= set(callback.last.layers)
    assert not any(module._forward_hooks for module in watched.modules())


@needs("lightning")
@pytest.mark.filterwarnings("ignore")
def test_lightning_loggers_hear_the_numbers(tmp_path):
    import lightning.pytorch as pl
    from isometry.adapters.lightning import DoctorCallback
    from lightning.pytorch.loggers import CSVLogger

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.network = perceptron()

        def training_step(self, batch):
            return self.network(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1e-2)

    data = torch.utils.data.TensorDataset(torch.randn(32, 8))
    logger = CSVLogger(tmp_path, name="", version="")
    quiet = dict.fromkeys(("enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    callbacks = [DoctorCallback(every=2, examines=False)]
    trainer = pl.Trainer(max_epochs=1, accelerator="cpu", callbacks=callbacks, logger=logger, **quiet)
    trainer.fit(Module(), torch.utils.data.DataLoader(data, 8))
    assert "health/gradient/network.0" in (tmp_path / "metrics.csv").read_text()


# Hugging Face


def hugging_face_run(folder, callbacks, **options):
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

    set_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = BertForSequenceClassification(BertConfig(vocab_size=16, max_position_embeddings=8, **sizes))
    tokens = torch.randint(0, 16, (64, 8))
    data = [{"input_ids": row, "labels": row[0] % 2} for row in tokens]
    rest = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    arguments = TrainingArguments(
        str(folder), max_steps=6, per_device_train_batch_size=4, gradient_accumulation_steps=2, **rest, **options
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=data, callbacks=callbacks)
    trainer.train()
    return model, trainer


@needs("transformers")
@pytest.mark.filterwarnings("ignore")
def test_a_run_of_trainer_with_the_doctor_is_the_same_run(tmp_path):
    from isometry.adapters.hugging_face import DoctorCallback

    said = []
    callback = DoctorCallback(every=3, tell=said.append)
    plain, _ = hugging_face_run(tmp_path, [])
    watched, trainer = hugging_face_run(tmp_path, [callback])
    for one, other in zip(plain.parameters(), watched.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not any("not examined" in line for line in said), said
    assert callback.examination is not None
    told = [entry["step"] for entry in trainer.state.log_history if "health_spread" in entry]
    assert told == [1, 3, 6]
    assert "bert.encoder.layer.0.attention.self.query" in callback.last.layers
    assert not any(module._forward_hooks for module in watched.modules())


# The examples, and what is said where a library is missing


@pytest.mark.parametrize(
    "example",
    [
        "plain_loop",
        pytest.param("lightning_callback", marks=needs("lightning")),
        pytest.param("hugging_face_callback", marks=needs("transformers")),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_the_example_runs(example, capsys):
    runpy.run_path(str(EXAMPLES / f"{example}.py"), run_name="__main__")
    said = capsys.readouterr().out
    assert "'spread'" in said
    assert example != "plain_loop" or "dead units in 3" in said


@pytest.mark.parametrize(("adapter", "library"), [("lightning", "lightning"), ("hugging_face", "transformers")])
def test_a_missing_library_names_the_extra_that_brings_it(monkeypatch, adapter, library):
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"isometry.adapters.{adapter}", raising=False)
    with pytest.raises(ImportError, match=rf"pip install 'isometry\[{library}\]'"):
        importlib.import_module(f"isometry.adapters.{adapter}")


@pytest.mark.parametrize("every", [-1, 2.5])
def test_a_watch_that_could_never_look_is_refused(every):
    model = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="expected a whole number of steps"):
        Watch(model, torch.optim.SGD(model.parameters(), 0.1), every)
