"""A small classification run for tests of what schedules it."""

import torch
from torch import nn


def start(lr=0.05, momentum=0.9, seed=0):
    model = nn.Linear(6, 3)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=torch.Generator().manual_seed(seed)))
    return model, torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum)


def batch(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(16, 6, generator=generator), torch.randint(3, (16,), generator=generator)


def train(model, optimizer, scheduler, steps, first=0, report=lambda losses: losses.mean()):
    rates = []
    for step in range(first, first + steps):
        x, y = batch(step)
        losses = nn.functional.cross_entropy(model(x), y, reduction="none")
        optimizer.zero_grad()
        losses.mean().backward()
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(report(losses))
    return rates
