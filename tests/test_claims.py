"""Claims of papers: what is tried, kept and told."""

import json

import numpy as np
import pytest

from rlsched._check import ArgumentError
from rlsched.controllers import FixedCurriculum, Linear, curricula
from rlsched.envs.drivers.plain import train
from rlsched.envs.tasks import Digits, DigitsConfig
from rlsched.experiments import spawned
from rlsched.experiments.claims import tried
from rlsched.experiments.claims.__main__ import main
from rlsched.experiments.claims.claim import Claim, Pair, against_uniform, final_losses
from rlsched.experiments.claims.tried import AREAS, Tried, choose, claims_of, try_all
from rlsched.experiments.methods import METHODS, find

ALL = [claim for area in AREAS for claim in claims_of(area)]


def task(seed):
    return Digits().build(
        DigitsConfig(data_seed=seed, num_steps=20, num_decisions=5, batch_size=8, optimizer="adam", base_lr=0.01)
    )


def test_every_claim_is_of_a_method_of_the_catalogue_and_unlike_the_others():
    find(",".join(claim.method for claim in ALL))
    places = [tried._file(tried.Path("x"), claim) for claim in ALL]
    assert len(set(places)) == len(places)


def test_every_curriculum_average_and_optimizer_is_tried():
    kinds = {"curriculum", "average", "optimizer"}
    # It is compared with retraining, in docs/claims.md.
    known = {claim.method for claim in ALL} | {"sample-order"}
    # Of these, evaluations of the policy have every one anyway.
    known |= {"schedule-free"}
    assert {entry.name for entry in METHODS if entry.kind in kinds} <= known


def test_a_claim_compares_the_same_task_and_seed():
    curriculum = FixedCurriculum(Linear(), curricula(4)[3])
    pair = against_uniform(task, curriculum)([3, 5])
    np.testing.assert_allclose(pair.method, [train(task(s), curriculum, s).test for s in (3, 5)], rtol=1e-4)
    np.testing.assert_allclose(pair.plain, [train(task(s), Linear(), s).test for s in (3, 5)], rtol=1e-4)


def test_a_run_that_fails_is_infinite():
    lost = final_losses([task(0).with_base_lr(1e30)], Linear(), [0])
    assert lost.tolist() == [np.inf]
    found = Tried(ALL[0], Pair(np.array([1.0, np.inf, 1.0]), np.ones(3)))
    assert found.row["change"] == "the method failed in 1 of 3"
    other = Tried(ALL[0], Pair(np.ones(3), np.array([1.0, np.inf, np.inf])))
    assert other.row["change"] == f"{ALL[0].plain} failed in 2 of 3"


@pytest.mark.parametrize(("method", "plain"), [([1.0, 0.0], [1.0, 1.0]), ([1.0], [1.0, 1.0]), ([np.nan], [1.0])])
def test_what_has_no_ratio_is_refused(method, plain):
    with pytest.raises(ValueError, match="must be positive, one for each seed"):
        Pair(np.array(method), np.array(plain))


def test_rows_say_what_the_interval_says():
    ratios = np.array([0.90, 0.91, 0.89])
    row = Tried(Claim("sec", "somewhere", lambda seeds: Pair(ratios, ratios)), Pair(ratios, np.ones(3))).row
    assert row["it"] == "helps"
    assert row["change"].startswith("-10.0 %")
    assert Tried(ALL[0], Pair(np.ones(3), ratios)).outcome == "harms"
    assert Tried(ALL[0], Pair(np.array([0.5, 1.0, 2.0]), np.ones(3))).outcome == "not told"


def test_claims_are_chosen_by_method_or_area():
    assert len(choose("")) == len(ALL)
    chosen = choose("spdcl, views")
    assert {claims_of(area)[index].method for area, index in chosen} == {"spdcl", "view-batches"}
    with pytest.raises(ArgumentError, match=r"only must name methods with a claim, or areas .*got \['sgd'\]"):
        choose("spdcl,sgd")


def test_the_command_runs_keeps_and_tells(tmp_path, capsys, monkeypatch):
    main(tmp_path, seeds=3, workers=1, only="deferred-reweighting")
    page = (tmp_path / "claims.md").read_text()
    assert "| `deferred-reweighting` |" in page
    assert page in capsys.readouterr().out
    assert (tmp_path / "claims.png").stat().st_size > 5000
    [claim] = json.loads((tmp_path / "claims.json").read_text())["claims"]
    [kept] = (tmp_path / "runs").iterdir()
    record = json.loads(kept.read_text())
    assert len(record["method"]) == len(record["plain"]) == 3
    # What is kept is not run again, unless there are to be more seeds.
    monkeypatch.setattr(spawned, "ProcessPoolExecutor", None)
    main(tmp_path, seeds=3, workers=1, only="deferred-reweighting")
    assert json.loads((tmp_path / "claims.json").read_text())["claims"] == [claim]
    with pytest.raises(TypeError):
        list(try_all(choose("deferred-reweighting"), 4, tmp_path / "runs", 1))


@pytest.mark.parametrize(
    ("settings", "words"), [({"seeds": 2}, "seeds must be"), ({"workers": 0}, "workers must")]
)
def test_bad_settings_are_refused(tmp_path, settings, words):
    with pytest.raises(ArgumentError, match=words):
        main(tmp_path, **settings)
