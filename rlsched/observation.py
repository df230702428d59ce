"""What a policy sees: scale-free features of a run, from telemetry.

Nothing here is tied to the task, the model or the units of the loss, so that a policy can be used on runs
unlike those it was trained on. An observation is (R, F + K * B): F features of the run, then B features of
each of its K buckets. There is no recurrence: memory is references (first, best, last) and exponential averages,
carried in the state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rlsched.contract import Array, RunSpec, State, Window


@dataclass(frozen=True)
class Feature:
    """One entry of an observation: its name, its range (values are clipped to it), unit and meaning."""

    name: str
    low: float
    high: float
    unit: str
    meaning: str


RUN_FEATURES = (
    Feature("progress", 0, 1, "1", "share of the run's steps that are done"),
    Feature("decisions_left", 0, 4, "decades", "log10(1 + decisions left after this one)"),
    Feature("interval", 0, 7, "decades", "log10 of the steps until the next decision"),
    Feature("log_scale", -4, 4, "decades", "current correction to the default schedule, decades"),
    Feature("last_move", -1, 1, "moves", "previous action on the learning rate"),
    Feature("loss_vs_first", -20, 20, "nats", "ln(loss / first loss)"),
    Feature("loss_vs_best", -1, 20, "nats", "ln(loss / lowest window loss so far)"),
    Feature("loss_change", -20, 20, "nats", "ln(loss / loss of the window before)"),
    Feature("loss_change_fast", -20, 20, "nats", "exponential average of loss_change, rate 0.5"),
    Feature("loss_change_slow", -20, 20, "nats", "exponential average of loss_change, rate 0.15"),
    Feature("loss_slope", -5, 5, "1", "relative change of the loss inside the window, by a line"),
    Feature("loss_noise", 0, 5, "1", "relative deviation of the loss about that line"),
    Feature("grad_vs_first", -20, 20, "nats", "ln(gradient norm / first gradient norm)"),
    Feature("grad_change", -20, 20, "nats", "ln(gradient norm / that of the window before)"),
    Feature("grad_spread", 0, 5, "nats", "standard deviation of ln(gradient norm) on the sampled steps"),
    Feature("matrix_update", -12, 4, "decades", "log10(|update| / |weights|), mean over weight matrices"),
    Feature("grad_agreement", -1, 1, "1", "mean cosine of consecutive gradients"),
    Feature("grad_agreement_slow", -1, 1, "1", "exponential average of grad_agreement, rate 0.15"),
    Feature("batch_size", -6, 12, "octaves", "log2(batch size / 32); 0 where unknown"),
    Feature("adaptive", 0, 1, "flag", "1 for optimizers of Adam's kind, 0 for SGD"),
    Feature("feedback", 0, 1, "flag", "1 once a validation loss has been reported"),
    Feature("validation_change", -20, 20, "nats", "ln(validation loss / the report before)"),
    Feature("validation_vs_best", -1, 20, "nats", "ln(validation loss / lowest report so far)"),
    Feature("gap", -20, 20, "nats", "ln(validation loss / loss), relative to its first value"),
    Feature("curriculum", 0, 1, "flag", "1 if bucket weights act and bucket losses are known"),
    Feature("epochs", -8, 8, "octaves", "log2(passes over the data / 4); 0 where unknown"),
)
BUCKET_FEATURES = (
    Feature("relative_loss", -20, 20, "nats", "ln(bucket's loss / mean over buckets by share)"),
    Feature("loss_change", -20, 20, "nats", "ln(bucket's loss / the one before)"),
    Feature("loss_vs_first", -20, 20, "nats", "ln(bucket's loss / its first)"),
    Feature("share", -10, 10, "nats", "ln(K * bucket's share of the data)"),
    Feature("difficulty", -1, 1, "1", "rank of difficulty, easiest -1, hardest 1, no order 0"),
    Feature("weight", -10, 10, "nats", "ln(bucket's current weight / its share)"),
)
READS = frozenset({"loss", "grad_norm", "update_ratio", "grad_agreement", "bucket_loss", "validation_loss"})
_FAST, _SLOW = 0.5, 0.15


def bounds(num_buckets: int) -> tuple[Array, Array]:
    """Lowest and highest value of each entry of an observation with `num_buckets` buckets."""
    features = RUN_FEATURES + BUCKET_FEATURES * num_buckets
    low = np.array([feature.low for feature in features], dtype=np.float32)
    return low, np.array([feature.high for feature in features], dtype=np.float32)


def init(spec: RunSpec) -> State:
    """The memory before a run's first step: nothing known yet (NaN), averages at 0."""
    unknown = np.full(spec.num_runs, np.nan)
    zero = np.zeros(spec.num_runs)
    buckets = np.full(spec.bucket_shares.shape, np.nan)
    return {
        "first_loss": unknown, "best_loss": unknown, "last_loss": unknown, "loss_noise": zero,
        "change_fast": zero, "change_slow": zero, "first_grad": unknown, "last_grad": unknown,
        "update_ratio": unknown, "agreement_slow": zero,
        "best_validation": unknown, "last_validation": unknown, "first_gap": unknown,
        "bucket_first": buckets, "bucket_last": buckets,
    }  # fmt: skip


def has_loss(window: Window) -> Array:
    """(R,) whether the window has a loss that features are defined for: measured, finite, not negative."""
    return np.isfinite(window.loss) & (window.loss >= 0)


def observe(
    state: State, window: Window, log_scale: Array, last_move: Array, bucket_weights: Array
) -> tuple[State, Array]:
    """The observation of R runs after `window`, and the memory that includes it.

    What was not measured leaves the memory as it is; a feature that has no value yet is 0.

    Args:
        state: from `init` or the call before.
        window: the telemetry.
        log_scale: (R,) current correction, decades.
        last_move: (R,) previous action on the learning rate, in [-1, 1].
        bucket_weights: (R, K) current weights.

    Returns:
        the new memory and the (R, F + K * B) float32 observation, finite and within `bounds`.
    """
    spec = window.spec
    loss = _log(np.where(has_loss(window), window.loss, np.nan))
    grad = _log(window.grad_norm)
    validation = _log(np.where(window.validation_loss >= 0, window.validation_loss, np.nan))

    first_loss = _keep(state["first_loss"], loss)
    best_loss = np.fmin(state["best_loss"], loss)
    change = loss - state["last_loss"]
    change_fast = state["change_fast"] + _FAST * _or_zero(change - state["change_fast"])
    change_slow = state["change_slow"] + _SLOW * _or_zero(change - state["change_slow"])
    loss_noise = np.where(np.isfinite(window.loss_noise), window.loss_noise, state["loss_noise"])
    first_grad = _keep(state["first_grad"], grad)
    update_ratio = _keep(np.log10(np.e) * _log(window.update_ratio), state["update_ratio"])
    agreement = window.grad_agreement
    agreement_slow = state["agreement_slow"] + _SLOW * _or_zero(agreement - state["agreement_slow"])

    best_validation = np.fmin(state["best_validation"], validation)
    last_validation = _keep(validation, state["last_validation"])
    gap = last_validation - _keep(loss, state["last_loss"])
    first_gap = _keep(state["first_gap"], gap)

    bucket = _log(np.where(window.bucket_loss >= 0, window.bucket_loss, np.nan))
    bucket_last = _keep(bucket, state["bucket_last"])
    bucket_first = _keep(state["bucket_first"], bucket)
    acts = steerable(window, bucket_last)

    run = np.stack(
        [
            window.progress,
            np.log10(1.0 + np.maximum(spec.num_decisions - window.decision, 0)),
            np.log10(np.maximum(window.steps_ahead, 1)),
            log_scale,
            last_move,
            loss - first_loss,
            loss - best_loss,
            change,
            change_fast,
            change_slow,
            window.loss_slope,
            loss_noise,
            grad - first_grad,
            grad - state["last_grad"],
            window.grad_spread,
            update_ratio,
            agreement,
            agreement_slow,
            np.log2(spec.batch_size / 32.0),
            spec.adaptive.astype(np.float64),
            np.isfinite(last_validation).astype(np.float64),
            validation - state["last_validation"],
            last_validation - best_validation,
            gap - first_gap,
            acts.astype(np.float64),
            np.log2(spec.epochs / 4.0),
        ],
        axis=1,
    )
    mean_bucket = _log((spec.bucket_shares * np.exp(bucket_last)).sum(axis=1))
    buckets = np.stack(
        [
            bucket_last - mean_bucket[:, None],
            bucket - state["bucket_last"],
            bucket_last - bucket_first,
            np.log(spec.num_buckets * spec.bucket_shares),
            2.0 * spec.bucket_difficulty - 1.0,
            np.log(np.maximum(bucket_weights, 1e-9) / spec.bucket_shares),
        ],
        axis=2,
    )
    # A run that cannot be steered looks the same whatever its buckets are: like a run without any.
    buckets = np.where(acts[:, None, None], buckets, 0.0)
    observation = np.concatenate([run, buckets.reshape(spec.num_runs, -1)], axis=1)
    low, high = bounds(spec.num_buckets)
    memory = {
        "first_loss": first_loss, "best_loss": best_loss, "last_loss": _keep(loss, state["last_loss"]),
        "loss_noise": loss_noise, "change_fast": change_fast, "change_slow": change_slow,
        "first_grad": first_grad, "last_grad": _keep(grad, state["last_grad"]),
        "update_ratio": update_ratio, "agreement_slow": agreement_slow,
        "best_validation": best_validation, "last_validation": last_validation,
        "first_gap": first_gap, "bucket_first": bucket_first, "bucket_last": bucket_last,
    }  # fmt: skip
    return memory, np.clip(_or_zero(observation), low, high).astype(np.float32)


def steerable(window: Window, bucket_last: Array) -> Array:
    """(R,) whether the curriculum may act: the run draws by bucket and every bucket's loss is known.

    Without bucket losses a policy would steer blindly, so such a run keeps its natural mixture.
    """
    return window.spec.curriculum & np.isfinite(bucket_last).all(axis=1)


def _log(values: Array) -> Array:
    """ln of finite values, those below 1e-12 lifted to it; NaN elsewhere."""
    usable = np.isfinite(values)
    return np.where(usable, np.log(np.maximum(np.where(usable, values, 1.0), 1e-12)), np.nan)


def _keep(values: Array, otherwise: Array) -> Array:
    """`values` where known, else `otherwise`."""
    return np.where(np.isfinite(values), values, otherwise)


def _or_zero(values: Array) -> Array:
    return np.where(np.isfinite(values), values, 0.0)
