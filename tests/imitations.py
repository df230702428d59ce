"""What the tests of searches and of imitation share."""

import numpy as np

from rlsched.action import ActionSpec
from rlsched.agents.rollouts import Setting
from rlsched.contract import Array
from rlsched.envs.tasks import TaskFamily
from rlsched.policy import PolicyInterface
from tests.families import TINY


def setting(tasks: TaskFamily = TINY, action: ActionSpec | None = None) -> Setting:
    return Setting(tasks, PolicyInterface(action or ActionSpec()))


def softmax(logits: Array) -> Array:
    likely = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return likely / likely.sum(axis=-1, keepdims=True)
