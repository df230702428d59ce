"""Imitation: lessons say what the search found, and the student learns it."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.utils import seeding

from rlsched.action import ActionSpec
from rlsched.agents import EvaluationSettings, PPOSettings, SchedulePPO, TrainConfig, WarmStart, train
from rlsched.agents.evaluation import EvaluationUnit, evaluation_seeds, join_outcomes
from rlsched.agents.imitation import Lesson, LessonUnit, SearchUnit, TunedGroup, fit
from rlsched.agents.imitation.followed import POINTS
from rlsched.agents.imitation.lesson import _Teacher
from rlsched.agents.imitation.search import GRID, draw_group
from rlsched.agents.imitation.warm_start import _interpolate
from rlsched.agents.ppo import RolloutPlan
from rlsched.agents.privileged import FACTS, facts
from rlsched.agents.rollouts import InProcess, Job
from rlsched.contract import Array, RunSpec, Window
from rlsched.controllers.curriculum.fixed import curricula
from rlsched.envs import TrainingScheduleEnv
from rlsched.envs.tasks import Digits, DigitsConfig
from rlsched.observation import RUN_FEATURES, bounds
from tests.families import TINY, Explosive, Gentle, exploring
from tests.imitations import setting, softmax
from tests.policies import random_policy

NAMES = [feature.name for feature in RUN_FEATURES]
WEIGHTS = exploring(random_policy(0).tensors)
STILL = exploring(random_policy(0).tensors, -40.0)
"""Without exploration."""


# The teacher and its lessons


def make_group(count: int = 3, seed: int = 2, log_lr: float = -2.0, chosen: int = 0) -> TunedGroup:
    """A group of `draw_group(tasks, seed, count)` as if a search had found the rest."""
    regret = np.random.default_rng(0).uniform(0.0, 3.0, (count, len(GRID)))
    likely, none = np.repeat(np.eye(17)[[chosen]], count, axis=0), np.zeros((count, 0, POINTS, 4))
    return TunedGroup(seed, np.full(count, log_lr), regret, likely, none)


def states(lesson: Lesson, runs: int) -> tuple[Array, Array]:
    """Observations and targets (T, R, ...) of a lesson in which no run ended early."""
    return lesson.observations.reshape(-1, runs, lesson.observations.shape[1]), lesson.targets.reshape(
        -1, runs, lesson.targets.shape[1]
    )


def test_the_teacher_goes_to_the_tuned_learning_rate_as_fast_as_it_can_and_stays():
    group = make_group(log_lr=-1.8)
    lesson = LessonUnit(4, group, copies=2, taught=1.0).run(setting(), STILL)
    seen, targets = states(lesson, 6)
    log_base = 2.0 * lesson.facts.reshape(-1, 6, len(FACTS))[0, :, FACTS.index("log_base_lr")]
    goal = -1.8 - log_base
    assert np.ptp(log_base) > 1.0, "copies are misjudged differently"
    log_scale = np.zeros(6)
    for now, wanted in zip(seen, targets, strict=True):
        np.testing.assert_allclose(now[:, NAMES.index("log_scale")], log_scale, atol=1e-5)
        move = np.clip((goal - log_scale) / 0.7, -1.0, 1.0)
        np.testing.assert_allclose(wanted[:, 0], move, atol=1e-5)
        log_scale = log_scale + 0.7 * move
    np.testing.assert_allclose(log_scale, goal, atol=1e-5)
    np.testing.assert_allclose(targets[-1, :, 0], 0.0, atol=1e-5)


@pytest.mark.parametrize("chosen", range(17))
def test_the_teachers_logits_give_the_curriculums_weights(chosen):
    """Up to the floor, decoded as every policy's actions are."""
    shares = np.array([0.1, 0.4, 0.2, 0.3])
    action, configs = ActionSpec(), [TINY.sample(np.random.default_rng(0))]
    teacher = _Teacher(make_group(1, chosen=chosen), 1, configs, action)
    spec = RunSpec.single(50, 10, 0.1, adaptive=False, bucket_shares=shares)
    for progress in (0.0, 0.4, 1.0):
        seen = np.zeros((1, len(bounds(4)[0])))
        seen[0, NAMES.index("progress")] = progress
        _, decision = action.decode(action.init(spec), Window.opening(spec), teacher.act(seen), np.array([True]))
        wanted = softmax(np.log(shares) + curricula(4)[chosen].logits(np.array(progress)))
        np.testing.assert_allclose(decision.bucket_weights[0], 0.98 * wanted + 0.02 * shares, atol=1e-9)


def test_the_teacher_weighs_curricula_by_how_likely_they_are():
    likely = softmax(np.random.default_rng(0).standard_normal(17))
    group = dataclasses.replace(make_group(1), curricula=likely[None])
    teacher = _Teacher(group, 3, [TINY.sample(np.random.default_rng(0))] * 3, ActionSpec())
    seen = np.zeros((3, len(bounds(4)[0])))
    seen[:, NAMES.index("progress")] = [0.0, 0.5, 0.9]
    for row, progress in enumerate((0.0, 0.5, 0.9)):
        logits = sum(p * each.logits(np.array(progress)) for p, each in zip(likely, curricula(4), strict=True))
        np.testing.assert_allclose(teacher.act(seen)[row, 1:], logits / 4.0, atol=1e-9)


def test_lessons_are_episodes_of_the_single_environment():
    """With the teacher's actions and no exploration: what was seen, told, and what the rest of it brought."""
    tasks = Gentle()
    group, copies = SearchUnit(4, 2).run(setting(tasks), {}), 2
    group = dataclasses.replace(group, log_lr=np.full(2, -2.6))
    lesson = LessonUnit(6, group, copies, taught=1.0).run(setting(tasks), STILL)
    seen, targets = states(lesson, 4)
    known, _ = draw_group(tasks, 4, 2)
    rng = seeding.np_random(6)[0]
    configs = []
    for config in (config for config in known for _ in range(copies)):
        other = tasks.sample_like(rng, config)
        configs.append(
            dataclasses.replace(
                config, base_lr=other.base_lr, feedback=other.feedback, batch_size_known=other.batch_size_known
            )
        )
    seeds = rng.integers(2**31, size=4)
    steered = lesson.steered.reshape(-1, 4)
    for row, config in enumerate(configs):
        env = TrainingScheduleEnv(tasks)
        now, _ = env.reset(options={"task": config, "run_seed": int(seeds[row])})
        rewards, over, step = [], False, 0
        while not over:
            np.testing.assert_allclose(seen[step, row], now, atol=5e-3)
            assert steered[step, row] == (now[NAMES.index("curriculum")] == 1.0)
            now, reward, over, _, _ = env.step(targets[step, row])
            rewards.append(reward)
            step += 1
        to_go = [sum(rewards[first:]) for first in range(step)]
        np.testing.assert_allclose(lesson.returns.reshape(-1, 4)[:, row], to_go, atol=5e-3)
        for told in lesson.facts.reshape(-1, 4, len(FACTS))[:, row]:
            np.testing.assert_array_equal(told, facts(config))
        offset = np.log10(config.base_lr / tasks.sensible_lr(config))
        positions = offset + seen[:, row, NAMES.index("log_scale")]
        np.testing.assert_allclose(lesson.positions.reshape(-1, 4)[:, row], positions, atol=1e-5)
        for regret in lesson.regret.reshape(-1, 4, len(GRID))[:, row]:
            np.testing.assert_allclose(regret, group.regret[row // copies], rtol=1e-6)
    assert steered.any()
    assert not steered.all()


def test_states_of_runs_that_are_over_are_no_lesson():
    tasks = Explosive()
    lesson = LessonUnit(2, make_group(4, log_lr=-2.0), 2, taught=1.0).run(setting(tasks), STILL)
    starts = (
        lesson.observations[:, NAMES.index("decisions_left")]
        == lesson.observations[:, NAMES.index("decisions_left")].max()
    )
    assert starts.sum() == 8
    diverged = np.isclose(lesson.returns, -5.0, atol=1e-4)
    assert 0 < diverged.sum() < 8
    # A run that diverges in its opening has one state, another one twelve.
    assert len(lesson.returns) == diverged.sum() + 12 * (8 - diverged.sum())
    assert np.isfinite(lesson.observations).all()
    assert np.abs(lesson.targets).max() <= 1.0


def test_the_student_acts_in_all_but_the_taught_share_of_episodes():
    """The observation after a decision tells the move: the teacher's is its target."""
    group = make_group(4, log_lr=-1.0)
    for taught, least, most in ((1.0, 16, 16), (0.5, 3, 13), (0.0, 0, 0)):
        lesson = LessonUnit(4, group, copies=4, taught=taught).run(setting(), STILL)
        seen, targets = states(lesson, 16)
        moved = seen[1:, :, NAMES.index("last_move")]
        by_teacher = np.isclose(moved, targets[:-1, :, 0], atol=1e-5).all(axis=0)
        assert least <= by_teacher.sum() <= most
        for row in np.flatnonzero(~by_teacher):
            expected = random_policy(0).act(seen[:-1, row])[:, 0]
            np.testing.assert_allclose(moved[:, row], expected, atol=1e-4)


def test_a_student_explores_in_its_lessons():
    group = make_group(3, log_lr=-1.8)
    seen, targets = states(LessonUnit(4, group, 6, taught=1.0).run(setting(), WEIGHTS), 18)
    noise = seen[1:, :, NAMES.index("last_move")] - targets[:-1, :, 0]
    inside = np.abs(targets[:-1, :, 0]) < 0.3
    assert inside.sum() > 30
    # Clipping at 1 takes little of it.
    assert noise[inside].std() == pytest.approx(np.exp(-1.0), rel=0.2)


def test_a_lesson_and_a_search_depend_on_nothing_but_themselves():
    jobs: list[Job] = [SearchUnit(2, 3), LessonUnit(4, make_group(), 2, 0.5), SearchUnit(6, 3)]
    one, other = (InProcess(setting()).run(order, WEIGHTS) for order in (jobs, jobs[::-1]))
    for mine, theirs in zip(one, other[::-1], strict=True):
        for name, value in vars(mine).items():
            np.testing.assert_array_equal(value, getattr(theirs, name))


def test_every_round_has_tasks_of_its_own_and_is_taught_ever_more_rarely():
    warm = WarmStart(groups=3, group_tasks=2, rounds=4, copies=5)
    searches = [warm.searches(0, number) for number in range(4)]
    assert [(unit.tasks, unit.buckets) for unit in searches[1]] == [(2, True)] * 3
    tuned = [[make_group(2, seed=unit.seed) for unit in units] for units in searches]
    rounds = [warm.lessons(0, number, groups) for number, groups in enumerate(tuned)]
    assert [units[0].taught for units in rounds] == [1.0, 0.5, 0.25, 0.0]
    assert [[unit.group for unit in units] for units in rounds] == tuned
    seeds = [unit.seed for units in searches + rounds for unit in units]
    assert len(set(seeds)) == 12 + 12
    assert WarmStart(groups=1, rounds=1).lessons(0, 0, tuned[0])[0].taught == 1.0


# Fitting


def make_model(seed: int = 0, members: int = 1) -> SchedulePPO:
    return SchedulePPO(
        InProcess(setting()), RolloutPlan(1, 4, 20), 4, 1, seed=seed, batch_size=40,
        policy_kwargs={"members": members},
    )  # fmt: skip


@pytest.fixture(scope="module")
def lessons() -> list[Lesson]:
    """Two rounds."""
    model = make_model()
    group = SearchUnit(22, 4).run(setting(), {})
    return [LessonUnit(seed, group, 4, 1.0).run(setting(), model.weights()) for seed in (4, 6)]


def errors(model: SchedulePPO, lesson: Lesson) -> tuple[float, float, float]:
    """Mean absolute errors of the move, of the logits where they act, and of the value."""
    inputs = torch.as_tensor(np.concatenate([lesson.observations, lesson.facts], axis=1))
    with torch.no_grad():
        actions = model.policy.mlp_extractor.forward_actor(inputs).numpy()
        values = model.policy.predict_values(inputs).numpy()[:, 0]
    wrong = np.abs(actions - lesson.targets)
    return wrong[:, 0].mean(), wrong[lesson.steered, 1:].mean(), np.abs(values - lesson.returns).mean()


def test_fitting_brings_the_actor_to_the_teacher_and_the_critic_to_the_returns(lessons):
    model = make_model()
    before = errors(model, lessons[-1])
    told = fit(model.policy, lessons, WarmStart(epochs=60, minibatch=64), ActionSpec(), np.random.default_rng(0))
    after = errors(model, lessons[-1])
    assert model.normalizer.calibrated
    for early, late, factor in zip(before, after, (0.5, 0.8, 0.5), strict=True):
        assert late < factor * early
    assert set(told) == {"move_error", "bucket_error", "value_error"}


def test_every_member_of_an_ensemble_learns_by_itself(lessons):
    model = make_model(members=2)
    warm = WarmStart(epochs=60, minibatch=64)
    fit(model.policy, lessons, warm, ActionSpec(), np.random.default_rng(0))
    last, network = lessons[-1], model.policy.mlp_extractor
    with torch.no_grad():
        run, buckets = network.normalizer(torch.as_tensor(last.observations))
        moves = network.actor.each(run, buckets)[..., 0].numpy()
    wrong = [np.abs(each - last.targets[:, 0]).mean() for each in (*moves, moves.mean(axis=0))]
    # If their mean alone were taught, it would be as near, and they themselves half as far again.
    assert max(wrong[:2]) < 1.2 * wrong[2]
    assert np.abs(moves[0] - moves[1]).mean() > 0.01


def fitted(lessons: list[Lesson], **changes: Any) -> dict[str, Array]:
    model = make_model()
    warm = WarmStart(**{"epochs": 2, "minibatch": 64} | changes)
    fit(model.policy, lessons, warm, ActionSpec(), np.random.default_rng(0))
    return {name: value.numpy().copy() for name, value in model.policy.state_dict().items()}


def differing(one: dict[str, Array], other: dict[str, Array]) -> set[str]:
    """Which parts of two agents differ."""
    return {
        name.split(".")[1] if "." in name else name for name in one if not np.array_equal(one[name], other[name])
    }


def test_a_fit_is_reproducible(lessons):
    assert differing(fitted(lessons), fitted(lessons)) == set()


def test_logits_that_do_not_act_teach_nothing(lessons):
    first, last = lessons
    assert 0.2 < last.steered.mean() < 0.95
    other = dataclasses.replace(last, targets=last.targets.copy())
    other.targets[~last.steered, 1:] = 0.77
    assert differing(fitted(lessons), fitted([first, other])) == set()
    other.targets[last.steered, 1:] = 0.77
    assert "actor" in differing(fitted(lessons), fitted([first, other]))


def test_the_critic_learns_from_the_latest_lesson_alone(lessons):
    first, last = lessons
    other = dataclasses.replace(first, returns=first.returns + 3.0, facts=first.facts + 1.0)
    assert differing(fitted(lessons), fitted([other, last])) == set()
    other = dataclasses.replace(last, returns=last.returns + 3.0)
    assert "critic" in differing(fitted(lessons), fitted([first, other]))


def test_regret_between_the_points_of_the_grid_is_on_a_line():
    rng = np.random.default_rng(0)
    values, positions = rng.standard_normal((200, len(GRID))), rng.uniform(-4.0, 4.0, 200)
    positions[:9], positions[9] = GRID, 2.0
    found = _interpolate(torch.as_tensor(values), torch.as_tensor(positions))
    expected = [np.interp(position, GRID, row) for position, row in zip(positions, values, strict=True)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_regret_has_the_slope_of_the_line_it_is_on():
    positions = torch.tensor([-1.2, 0.3, 5.0], requires_grad=True)
    values = torch.as_tensor(np.random.default_rng(0).standard_normal((3, len(GRID))))
    _interpolate(values, positions).sum().backward()
    slopes = [(values[0, 2] - values[0, 1]) / 0.5, (values[1, 5] - values[1, 4]) / 0.5, 0.0]
    np.testing.assert_allclose(positions.grad, slopes, atol=1e-6)  # type: ignore[arg-type]


def alike(count: int) -> Lesson:
    """States that look all the same, of two kinds of tasks.

    One kind is best half a decade up, and being too low costs it little; the other is best half a decade down, and
    being too high costs it much.
    """
    low, _ = bounds(4)
    grid, half = np.array(GRID), count // 2
    regret = np.stack([0.2 * np.maximum(0.5 - grid, 0.0), np.minimum(2.0 * np.maximum(grid + 0.5, 0.0), 3.0)])
    targets = np.zeros((count, 5), dtype=np.float32)
    targets[:, 0] = np.repeat([0.5 / 0.7, -0.5 / 0.7], half)
    return Lesson(
        observations=np.zeros((count, len(low)), dtype=np.float32),
        facts=np.zeros((count, len(FACTS)), dtype=np.float32),
        targets=targets,
        positions=np.zeros(count, dtype=np.float32),
        regret=regret.repeat(half, axis=0).astype(np.float32),
        steered=np.zeros(count, dtype=bool),
        returns=np.zeros(count, dtype=np.float32),
    )


@pytest.mark.parametrize(
    ("weights", "move"),
    [({}, -0.5 / 0.7), ({"distance": 0.0}, -0.5 / 0.7), ({"regret": 0.0, "distance": 1.0}, 0.0)],
    ids=["by default", "regret alone", "distance alone"],
)
def test_who_cannot_tell_errs_to_the_harmless_side(weights, move):
    """The mean regret is lowest half a decade down, the distance from the targets in their middle."""
    model, lesson = make_model(), alike(64)
    warm = WarmStart(epochs=200, minibatch=64, learning_rate=5e-3, **weights)
    fit(model.policy, [lesson], warm, ActionSpec(), np.random.default_rng(0))
    inputs = torch.zeros(1, lesson.observations.shape[1] + len(FACTS))
    with torch.no_grad():
        action = model.policy.mlp_extractor.forward_actor(inputs).numpy()[0]
    assert action[0] == pytest.approx(move, abs=0.03)
    assert np.abs(action[1:]).max() < 0.1, "logits that do not act are not taught"


def test_a_joined_lesson_holds_all_states(lessons):
    joined = Lesson.join(lessons)
    for name, value in vars(joined).items():
        np.testing.assert_array_equal(value, np.concatenate([getattr(each, name) for each in lessons]))


# All of it


@dataclass(frozen=True)
class Narrow(Digits):
    """One kind of task, its base learning rate misjudged by up to a hundred."""

    def sample(self, rng: np.random.Generator) -> DigitsConfig:
        config = super().sample(rng)
        return dataclasses.replace(
            config, optimizer="adam", base_lr=config.base_lr / self.sensible_lr(config) * 0.01, label_noise=0.0,
            noisy_validation=False, drift=0.0, duplicates=0.0, domain_skew=0.0, imbalance=1.0, depth=1, width=32,
            num_classes=10, num_features=32, bucket_by="difficulty", scorer="probe", num_decisions=10,
            batch_size=16, num_examples=400,
        )  # fmt: skip


def test_an_imitating_policy_beats_linear_decay_from_misjudged_learning_rates(tmp_path):
    tasks = Narrow(min_steps=40, max_steps=60)
    config = TrainConfig(
        warm_start=WarmStart(groups=3, group_tasks=4, rounds=3, copies=4, buckets=False, epochs=20, minibatch=128),
        ppo=PPOSettings(iterations=0),
        evaluation=EvaluationSettings(groups=1, group_tasks=3),
    )  # fmt: skip
    policy = train(config, tmp_path / "run", tasks=tasks)
    # On other tasks than those that training saw or that selected the policy.
    units = [EvaluationUnit(seed, 8) for seed in evaluation_seeds(0, 3, purpose=1)]
    backend = InProcess(setting(tasks))
    learned = join_outcomes(backend.run(units, policy.tensors))
    default = join_outcomes(backend.run(units))
    assert learned.configs == default.configs
    gain = default.scores - learned.scores
    # Half a nat of validation loss, and by three standard errors more than nothing.
    assert gain.mean() > 0.5
    assert gain.mean() > 3.0 * gain.std() / np.sqrt(len(gain))
