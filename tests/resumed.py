"""A training that is killed again and again, and resumed: `python -m tests.resumed OUT KILLS`.

Each attempt is a process of its own, forked from one that has imported everything.
"""

import os
import random
import signal
import sys
from pathlib import Path

import numpy as np
import torch

from rlsched.agents import train
from tests.families import TINY
from tests.trainings import SMALL


def seconds(out: Path) -> float:
    """The processor time of a training that nothing stops."""
    child = os.fork()
    if not child:
        train(SMALL, out, tasks=TINY)
        os._exit(0)
    _, _, usage = os.wait4(child, 0)
    return usage.ru_utime + usage.ru_stime


def main(out: Path, kills: int) -> int:
    """Prints how many attempts were killed, and how many attempts had something to resume."""
    # Both import much at their first use.
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])
    TINY.build(TINY.sample(np.random.default_rng(0)))
    whole = seconds(out.with_name("timed"))
    rng, killed, resumed = random.Random(0), 0, 0
    while True:
        resume = (out / "checkpoint.pt").exists()
        child = os.fork()
        if not child:
            if killed < kills:
                # Processor time, so that a busy machine makes no difference; shares of a whole training, so that
                # a slow one makes none: the first checkpoint comes after a sixth of it. The signal ends the
                # process there and then, as SIGKILL does.
                signal.setitimer(signal.ITIMER_PROF, whole * rng.uniform(0.03, 0.4))
            train(SMALL, out, tasks=TINY, resume=resume)
            os._exit(0)
        rng.random()  # as the child did
        resumed += resume
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            print(killed, resumed)
            return os.waitstatus_to_exitcode(status)
        killed += 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
