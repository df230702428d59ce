"""`rlsched demo`: the whole path, from training a policy to using it on data it never saw."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from rlsched import Policy, _check
from rlsched.agents.presets import QUICK
from rlsched.contract import Array
from rlsched.envs.tasks import Tabular, TabularConfig
from rlsched.experiments.backend import choose_backend
from rlsched.experiments.plain_run import TORCH_SCHEDULES, RunResult, run_policy, run_schedule
from rlsched.experiments.plots import plot_demo
from rlsched.experiments.train import train_with_bar

SOURCES = ("wine", "breast_cancer")
BASE_LR = 1e-3
"""The default of torch.optim.Adam: nobody tuned it."""
FACTORS = (0.1, 1.0, 10.0)
LEARNED = {"rlsched, LR only": False, "rlsched, LR and curriculum": True}

Results = dict[tuple[str, float, str], list[RunResult]]
"""(data set, factor on the base learning rate, method) -> one result per seed."""


def main(
    out: Path = Path("runs/demo"),
    iterations: int = QUICK.ppo.iterations,
    seeds: int = 10,
    seed: int = 0,
    workers: int = 0,
) -> None:
    """Train a small policy, and use it on data it never saw.

    Args:
        out: folder for the policy, the picture and the training's files; a training run in it is continued.
        iterations: of PPO; the default takes about six minutes on one core.
        seeds: repetitions of every run that is compared, at least 5.
        seed: of the training.
        workers: processes that train tasks, by Ray; 0 for this one alone. The policy is the same.
    """
    _check.integer("seeds", seeds, 5)
    console = Console(width=110)
    console.print("[bold]1. Train a policy[/bold] on small digits tasks (label noise, imbalance, base learning")
    console.print("   rates misjudged by up to 100x either way): imitation of tuned schedules, then PPO.")
    resume = (out / "checkpoint.pt").exists()
    if resume:
        console.print(f"   {out} holds a training run: it is used, and continued if it was not finished. Delete")
        console.print("   the folder to train anew.")
    config = dataclasses.replace(QUICK, seed=seed, ppo=dataclasses.replace(QUICK.ppo, iterations=iterations))
    policy = train_with_bar(config, out, backend=choose_backend(workers, None), resume=resume)

    console.print("\n[bold]2. Use it[/bold] as the scheduler of plain PyTorch runs on wine and breast_cancer.")
    results = compare(policy, seeds)
    console.print(table(results))
    for method in LEARNED:
        counts = ", ".join(f"{name} {tally(results, method, name)}" for name in TORCH_SCHEDULES)
        console.print(f"{method}, wins-ties-losses (by more than 1 %) against: {counts}", highlight=False)
    picture = plot_demo(results, SOURCES[-1], FACTORS, BASE_LR, out / "demo.png")

    console.print(f"\nPicture: {picture}\nPolicy:  {out / 'policy.safetensors'}", highlight=False)
    console.print(
        "[bold]Next[/bold], after `source .venv/bin/activate` if you came by make:\n"
        f"      rlsched inspect {out / 'policy.safetensors'}\n"
        f'      rlsched.RLScheduler(optimizer, num_steps=..., policy="{out / "policy.safetensors"}")\n'
        "      rlsched train --help      (longer training makes a better policy)",
        highlight=False,
    )


def compare(policy: Policy, seeds: int) -> Results:
    """Every method on every data set, base learning rate and seed. Nothing is tuned or selected here."""
    results: Results = {}
    methods = [*TORCH_SCHEDULES, *LEARNED]
    total = len(SOURCES) * len(FACTORS) * seeds * len(methods)
    with tqdm(total=total, desc="comparing", unit="run", dynamic_ncols=True, mininterval=0.5) as bar:
        for source in SOURCES:
            for factor in FACTORS:
                for seed in range(seeds):
                    task = Tabular().build(
                        TabularConfig(
                            source=source,
                            data_seed=seed,
                            num_steps=200,
                            num_decisions=20,
                            batch_size=16,
                            optimizer="adam",
                            base_lr=BASE_LR * factor,
                        )
                    )
                    for method in methods:
                        result = (
                            run_policy(task, seed, policy, curriculum=LEARNED[method])
                            if method in LEARNED
                            else run_schedule(task, seed, method)
                        )
                        results.setdefault((source, factor, method), []).append(result)
                        bar.update()
    return results


def tally(results: Results, method: str, other: str) -> str:
    """`wins-ties-losses` in final test loss over all data sets, base learning rates and seeds, paired."""
    ratio = np.concatenate(
        [
            test_losses(runs) / test_losses(results[source, factor, other])
            for (source, factor, name), runs in results.items()
            if name == method
        ]
    )
    wins, losses = int((ratio < 0.99).sum()), int((ratio > 1.01).sum())
    return f"{wins}-{ratio.size - wins - losses}-{losses}"


def test_losses(runs: list[RunResult]) -> Array:
    """(n,) final test loss of each run."""
    return np.array([run.test_loss for run in runs])


def table(results: Results) -> Table:
    """Mean and standard deviation over seeds of the final test loss; the lowest mean of a column is bold."""
    columns = [f"base LR {BASE_LR * factor:g}" for factor in FACTORS]
    shown = Table("data set", "method", *columns, title="Final test loss, mean ± standard deviation over seeds")
    for source in SOURCES:
        means = {
            (factor, method): test_losses(results[source, factor, method]).mean()
            for factor in FACTORS
            for method in (*TORCH_SCHEDULES, *LEARNED)
        }
        for method in (*TORCH_SCHEDULES, *LEARNED):
            cells = []
            for factor in FACTORS:
                losses = test_losses(results[source, factor, method])
                best = min(value for (column, _), value in means.items() if column == factor)
                text = f"{losses.mean():.3f} ± {losses.std(ddof=1):.3f}"
                cells.append(f"[bold]{text}[/bold]" if losses.mean() == best else text)
            shown.add_row(source, method, *cells, end_section=method == list(LEARNED)[-1])
    return shown
