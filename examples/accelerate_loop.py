"""A learned schedule with Accelerate: python examples/accelerate_loop.py [POLICY]"""

import sys

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

from rlsched import RLScheduler

POLICY = sys.argv[1] if len(sys.argv) > 1 else None  # none: the one that comes with rlsched

torch.manual_seed(0)
data = TensorDataset(torch.randn(512, 20), torch.randint(3, (512,)))
model = torch.nn.Sequential(torch.nn.Linear(20, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loader = DataLoader(data, batch_size=16, shuffle=True)

accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
epochs = 4
# Not prepared: a prepared scheduler is stepped once for each process.
scheduler = RLScheduler(optimizer, epochs * len(loader) // 2, POLICY, batch_size=32, epochs=epochs)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

for _ in range(epochs):
    losses = []
    for x, y in loader:
        with accelerator.accumulate(model):
            loss = torch.nn.functional.cross_entropy(model(x), y)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.detach())
        if accelerator.sync_gradients:
            scheduler.step(torch.stack(losses).mean())
            losses = []

print("learning rates", scheduler.history()["lr"][:, 0])
