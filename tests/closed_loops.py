"""Runs for tests of closed-loop controllers: windows made by hand, and quadratics whose training is NumPy."""

import numpy as np

from rlsched import RunSpec, Window
from rlsched.telemetry import is_sampled, summarise


def at(window, index):
    """`window` at the `index`-th decision of its runs."""
    decision = np.full(window.spec.num_runs, index)
    return window.replace(decision=decision, step=window.spec.boundary(decision))


def feed(controller, run, **measured):
    """The decisions on the opening and on windows with `measured` values, each a list of one per window."""
    state, decisions = controller.init(run), []
    count = len(next(iter(measured.values())))
    for index in range(count + 1):
        window = at(Window.opening(run), index)
        if index > 0:
            values = {name: np.full(run.num_runs, series[index - 1]) for name, series in measured.items()}
            window = window.replace(**values)
        state, decision = controller.decide(state, window)
        decisions.append(decision.check(window))
    return decisions


def scales(controller, run, **measured):
    """The multiplier at the first step after each of these windows."""
    return [float(decision.lr_scale[0, 0]) for decision in feed(controller, run, **measured)[1:]]


def descend(controller, base_lr, curvature, *, momentum=0.0, steps=200, decisions=40, start=1.0):
    """Gradient descent on 1/2 sum_i h_i w_i^2 under `controller`: losses and learning rates, step by step."""
    run = RunSpec.single(steps, decisions, base_lr, adaptive=False)
    h = np.asarray(curvature, dtype=float)
    w, velocity, before = np.full(h.shape, start), np.zeros(h.shape), None
    state, window, losses, rates = controller.init(run), Window.opening(run), [], []
    for index in range(1, decisions + 2):
        state, decision = controller.decide(state, window)
        decision.check(window)
        ahead = int(window.steps_ahead[0])
        series = np.full((4, 1, ahead), np.nan)
        for offset in range(ahead):
            gradient, rate = h * w, base_lr * decision.lr_scale[0, offset]
            losses.append(0.5 * float((h * w**2).sum()))
            rates.append(rate)
            series[0, 0, offset] = losses[-1]
            norm = np.linalg.norm(gradient)
            if is_sampled(offset, ahead) and norm > 0:
                series[1, 0, offset] = norm
                if before is not None:
                    series[3, 0, offset] = gradient @ before / norm / np.linalg.norm(before)
            velocity = momentum * velocity + gradient
            w, before = w - rate * velocity, gradient if norm > 0 else None
        window = summarise(
            run, window.step + ahead, np.array([index]), losses=series[0], grad_norms=series[1],
            update_ratios=series[2], grad_agreements=series[3], bucket_loss=np.full((1, 1), np.nan),
            validation_loss=np.full(1, np.nan),
        )  # fmt: skip
    return np.array(losses), np.array(rates)
