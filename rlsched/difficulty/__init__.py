"""Difficulty scores for `Buckets.from_scores`; higher is harder.

`linear_probe_scores` needs nothing but features and labels. The others read a `loss_history`: the losses of
every example over a short reference training (`rlsched.difficulty.reference`, which needs torch), or over any
other training in which they were measured.
"""

from rlsched.difficulty.linear_probe import linear_probe_scores
from rlsched.difficulty.scores import forgetting_scores, loss_variance_scores, reference_loss_scores

__all__ = ["forgetting_scores", "linear_probe_scores", "loss_variance_scores", "reference_loss_scores"]
