"""Difficulty from the losses of every example over a training."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rlsched import _check
from rlsched.contract import Array


def reference_loss_scores(history: npt.ArrayLike) -> Array:
    """The loss of each example at the end of the training.

    Args:
        history: (E, n) finite losses after each of E epochs, as `loss_history` returns them.

    Returns:
        (n,) scores, higher is harder.

    >>> reference_loss_scores([[2.0, 2.0], [0.1, 1.5]]).tolist()
    [0.1, 1.5]
    """
    return _check.matrix("history", history)[-1]


def forgetting_scores(history: npt.ArrayLike, threshold: float = math.log(2)) -> Array:
    """How often each example was learnt and then forgotten.

    An example is learnt after an epoch if its loss is below `threshold`; a forgetting event is an epoch after
    which it no longer is (Toneva et al. 2019, arXiv:1812.05159, who count at every batch that holds the example
    and put the never learnt ones above all others). For cross-entropy the default means that the true class
    has a probability of more than one half, and so is the class predicted. Scores are few whole numbers: they
    need more epochs than the others, and `Buckets.from_scores` splits ties by position.

    Args:
        history: (E, n) finite losses after each of E epochs, as `loss_history` returns them.
        threshold: of the loss, at least 0.

    Returns:
        (n,) number of forgetting events, at most E / 2; E for an example that was never learnt.

    >>> forgetting_scores([[0.1, 0.9, 0.1], [0.9, 0.9, 0.1], [0.1, 0.9, 0.1], [0.9, 0.9, 0.1]]).tolist()
    [2.0, 4.0, 0.0]
    """
    losses = _check.matrix("history", history)
    learnt = losses < _check.real("threshold", threshold, 0.0)
    events = (learnt[:-1] & ~learnt[1:]).sum(axis=0)
    return np.where(learnt.any(axis=0), events, len(losses)).astype(np.float64)


def loss_variance_scores(history: npt.ArrayLike) -> Array:
    """The variance of each example's loss over the epochs: high while a model cannot make up its mind.

    It is the squared *variability* of Swayamdipta et al. 2020 (Dataset Cartography, arXiv:2009.10795), taken of
    the loss in place of the true class's probability. A loss that falls once and for all varies too, and while the
    bulk is still being learnt that is what dominates: give it a history long enough for easy examples to be learnt
    in its first epochs. On digits with 20 % of the labels wrong, ten epochs of Adam at 1e-2 set the wrong ones
    apart with an AUC of 0.96, five at 1e-3 rank them *easier* than the rest (0.16); tests/test_difficulty.py.

    Args:
        history: (E, n) finite losses after each of E >= 2 epochs, as `loss_history` returns them.

    Returns:
        (n,) scores, higher is harder.

    >>> loss_variance_scores([[1.0, 5.0], [3.0, 5.0]]).tolist()
    [1.0, 0.0]
    """
    losses = _check.matrix("history", history)
    if len(losses) < 2:
        raise _check.ArgumentError(
            f"history must hold 2 epochs at least, got {len(losses)}: a single one does not vary."
        )
    return losses.var(axis=0)
