"""A learned schedule in Lightning: python examples/lightning_module.py [POLICY]"""

import sys

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from rlsched import RLScheduler
from rlsched.integrations.lightning import RLSchedulerCallback

POLICY = sys.argv[1] if len(sys.argv) > 1 else None  # none: the one that comes with rlsched


class Classifier(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.network = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", torch.nn.functional.cross_entropy(self.network(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-3)
        scheduler = RLScheduler(
            optimizer,
            self.trainer.estimated_stepping_batches,
            POLICY,
            batch_size=32,
            epochs=self.trainer.max_epochs,
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


torch.manual_seed(0)
data = TensorDataset(torch.randn(512, 20), torch.randint(3, (512,)))
module = Classifier()
trainer = pl.Trainer(
    max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    val_check_interval=4, callbacks=[RLSchedulerCallback(monitor="val_loss")],
)  # fmt: skip
trainer.fit(module, DataLoader(data, batch_size=32, shuffle=True), DataLoader(data, batch_size=128))
print("learning rates", module.lr_schedulers().history()["lr"][:, 0])
