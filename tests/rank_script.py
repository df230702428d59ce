"""One rank of a data-parallel run: python -m tests.rank_script STORE SIZE FOLDER RANK"""

import io
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rlsched import Buckets, CurriculumSampler, OnlineBuckets, RLScheduler
from tests.policies import random_policy

KINDS = ("plain", "natural", "fixed", "online", "failing", "resumed", "silent", "probed")
EXAMPLES, BATCH, STEPS = 96, 8, 40


def make(kind, size):
    torch.manual_seed(0)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3)))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    policy = random_policy(1)
    scheduler = RLScheduler(optimizer, STEPS, policy, num_decisions=12, on_event=lambda event: None)
    online = kind in ("online", "resumed")
    buckets = OnlineBuckets(EXAMPLES) if online else Buckets.from_scores(np.arange(float(EXAMPLES)))
    # One process has the batches of two.
    batch = BATCH if size == 2 else 2 * BATCH
    steered = kind not in ("plain", "natural", "failing", "silent")
    sampler = CurriculumSampler(buckets, batch, scheduler if steered else None, seed=3)
    return model, optimizer, scheduler, sampler


def run(kind, rank, size):
    generator = torch.Generator().manual_seed(7)
    x, y = torch.randn(EXAMPLES, 6, generator=generator), torch.randint(3, (EXAMPLES,), generator=generator)
    parts = make(kind, size)
    seen: dict[str, Any] = {"rates": [], "losses": [], "batches": []}
    for step in range(STEPS):
        if kind == "resumed" and step == 17:
            file = io.BytesIO()
            torch.save([part.state_dict() for part in parts], file)
            file.seek(0)
            parts = make(kind, size)
            for part, state in zip(parts, torch.load(file, weights_only=True), strict=True):
                part.load_state_dict(state)
        model, optimizer, scheduler, sampler = parts
        index = torch.as_tensor(sampler.draw())
        losses = nn.functional.cross_entropy(model(x[index]), y[index], reduction="none")
        optimizer.zero_grad()
        losses.mean().backward()
        seen["rates"].append(optimizer.param_groups[0]["lr"])
        seen["losses"].append(float(losses.mean()))
        seen["batches"].append(index.tolist())
        optimizer.step()
        reported = losses.detach()
        if kind == "failing" and step == 20 and rank == size - 1:
            reported = reported * math.nan
        if kind == "probed" and rank == 0:
            scheduler.report_bucket_losses([2.0, 1.0, 3.0, 1.0 + step])
        scheduler.step(None if kind == "silent" and rank == 1 else reported)
        if step % 3 == 0 and rank == 0:
            scheduler.report_validation(1.0 / (1 + step))
    memory = scheduler.state_dict()["controller"]["controller"]["observation"]
    seen["bucket_losses"] = memory["bucket_last"][0].exp()
    seen["bucket_weights"] = torch.from_numpy(scheduler.history()["bucket_weights"])
    seen["weights"] = torch.cat([parameter.detach().reshape(-1) for parameter in model.parameters()])
    seen["events"] = [[event.step, event.kind] for event in scheduler.events]
    return seen


def main(store, size, folder, rank):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=Path(store).as_uri(), rank=rank, world_size=size)
    for kind in KINDS:
        torch.save(run(kind, rank, size), Path(folder) / f"{kind}-{size}-{rank}.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
