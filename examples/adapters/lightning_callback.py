"""The doctor as a Lightning callback: examined before the first step, looked at every 20 steps.

pip install 'isometry[lightning]'
python examples/adapters/lightning_callback.py
"""

import lightning.pytorch as pl
import torch
from isometry.adapters.lightning import DoctorCallback
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset


class Waves(pl.LightningModule):
    """A perceptron that learns the product of two coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        loss = (self.network(x)[:, 0] - y).square().mean()
        self.log("loss", loss)
        return {"loss": loss}

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 1e-3)


def main() -> None:
    pl.seed_everything(0)
    x = torch.randn(1024, 16)
    doctor = DoctorCallback(every=20, on_fatal="raise", tell=print)
    quiet = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    trainer = pl.Trainer(max_epochs=3, accelerator="cpu", callbacks=[doctor], **quiet)
    trainer.fit(Waves(), DataLoader(TensorDataset(x, x[:, 0] * x[:, 1]), 32, shuffle=True))
    print(doctor.examination.text())
    print({name: round(value, 6) for name, value in doctor.last.summary().items()})


if __name__ == "__main__":
    main()
