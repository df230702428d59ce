"""The policy: network, file, and everything that is no policy file."""

import json
import pickle
import resource
import struct
from dataclasses import asdict

import numpy as np
import pytest
import safetensors.numpy
import torch

from rlsched import Policy, PolicyFormatError, observation
from rlsched.action import ActionSpec
from rlsched.observation import BUCKET_FEATURES, RUN_FEATURES
from rlsched.policy import PolicyMetadata
from rlsched.policy.format import encode
from tests.fuzz import fuzz
from tests.policies import random_policy

F, B = len(RUN_FEATURES), len(BUCKET_FEATURES)

OLD_ACTION = {name: value for name, value in asdict(ActionSpec()).items() if name != "settling"}
"""Of files of version 1."""
OLD_FEATURES = [feature.name for feature in RUN_FEATURES if feature.name != "epochs"]
EPOCHS = [feature.name for feature in RUN_FEATURES].index("epochs")
OLD = {
    name: np.delete(tensor, EPOCHS, axis=tensor.ndim - 1)
    for name, tensor in random_policy(0).tensors.items()
    if name == "trunk.0.weight" or name.startswith("normalizer.run_")
}
"""Tensors of files of versions 1 and 2."""


def observations(buckets: int, count: int = 50, seed: int = 0) -> np.ndarray:
    low, high = observation.bounds(buckets)
    return np.random.default_rng(seed).uniform(low, high, (count, len(low))).astype(np.float32)


def test_a_policy_survives_the_file(tmp_path):
    policy = random_policy(0)
    spec = ActionSpec(max_move=0.5, warmup_decisions=0, settling=0.5)
    policy = Policy(policy.tensors, PolicyMetadata(spec, {"seed": 1}, {"score": -0.5}, "0.1.0"))
    loaded = Policy.load(policy.save(tmp_path / "folder" / "policy.safetensors"))
    assert loaded.metadata == policy.metadata
    np.testing.assert_array_equal(loaded.act(observations(4)), policy.act(observations(4)))
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["policy.safetensors"]


def test_no_length_of_the_header_is_taken_for_a_pickle(tmp_path):
    policy = random_policy(0, trunk=2, bucket=2)
    starts = set()
    for length in range(0, 264, 8):
        noted = Policy(policy.tensors, PolicyMetadata(training={"note": "x" * length}))
        path = noted.save(tmp_path / "policy.safetensors")
        starts.add(path.read_bytes()[0])
        assert Policy.load(path).metadata == noted.metadata
    assert 0x80 in starts


@pytest.mark.parametrize("buckets", [1, 4, 40])
def test_one_policy_acts_on_any_number_of_buckets(buckets):
    actions = random_policy(0).act(observations(buckets))
    assert actions.shape == (50, 1 + buckets)
    assert (np.abs(actions) <= 1).all()


def test_permuting_the_buckets_permutes_the_logits():
    policy, seen, order = random_policy(0), observations(5), [3, 1, 4, 0, 2]
    moved = np.concatenate([seen[:, :F], seen[:, F:].reshape(50, 5, B)[:, order].reshape(50, -1)], axis=1)
    one, other = policy.act(seen), policy.act(moved)
    np.testing.assert_allclose(one[:, 0], other[:, 0], atol=1e-6)
    np.testing.assert_allclose(one[:, 1:][:, order], other[:, 1:], atol=1e-6)


def test_duplicated_buckets_get_equal_logits_and_leave_the_learning_rate_alone():
    policy, seen = random_policy(0), observations(2)
    doubled = np.concatenate([seen, seen[:, F:]], axis=1)
    one, other = policy.act(seen), policy.act(doubled)
    np.testing.assert_allclose(other, np.concatenate([one, one[:, 1:]], axis=1), atol=1e-6)


@pytest.mark.parametrize("shape", [(3,), (2, F), (2, F + B + 1)])
def test_an_observation_of_another_shape_is_refused(shape):
    with pytest.raises(ValueError, match="observation must have shape"):
        random_policy(0).act(np.zeros(shape, np.float32))


def write(tmp_path, tensors=None, fields=None, entries=None):
    """A safetensors file with some of a good policy's content replaced."""
    policy = random_policy(0)
    good = safetensors.numpy.load(encode(policy.tensors, policy.metadata))
    path = tmp_path / "policy.safetensors"
    path.write_bytes(encode(policy.tensors, policy.metadata))
    with safetensors.safe_open(path, framework="np") as file:
        described = json.loads(file.metadata()["rlsched"])
    text = json.dumps(described | (fields or {}))
    stored = {name: value for name, value in (good | (tensors or {})).items() if value is not None}
    metadata = {"rlsched": text} if entries is None else entries
    path.write_bytes(safetensors.numpy.save(stored, metadata=metadata))
    return path


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"entries": {}}, "not an rlsched policy"),
        ({"entries": {"rlsched": "{}", "other": "x"}}, "not an rlsched policy"),
        ({"entries": {"rlsched": "{"}}, "no valid JSON"),
        ({"entries": {"rlsched": "[" * 10**5}}, "no valid JSON"),
        ({"entries": {"rlsched": "[]"}}, "must be a JSON object"),
        ({"entries": {"rlsched": '{"format_version": NaN}'}}, "no valid JSON"),
        ({"fields": {"format_version": 99}}, "format version 99.*upgrade"),
        ({"fields": {"format_version": "1"}}, "must be a positive integer"),
        ({"fields": {"format_version": True}}, "must be a positive integer"),
        ({"fields": {"surprise": 1}}, r"unknown \['surprise'\]"),
        ({"fields": {"run_features": ["progress"]}}, "run_features are not those of this rlsched"),
        ({"fields": {"training": []}}, "training must be a dict"),
        ({"fields": {"licence": 7}}, "licence must be a str"),
        ({"fields": {"action": {"max_move": 0.5}}}, "must have exactly the fields"),
        ({"fields": {"action": OLD_ACTION}}, "must have exactly the fields"),
        ({"fields": {"format_version": 1, "run_features": OLD_FEATURES}, "tensors": OLD}, "exactly the fields"),
        ({"fields": {"format_version": 2}}, "run_features are not those"),
        ({"fields": {"format_version": 2, "run_features": OLD_FEATURES}}, "run_low must be float32"),
        ({"fields": {"action": asdict(ActionSpec()) | {"max_move": -1}}}, "max_move must be"),
        ({"fields": {"action": asdict(ActionSpec()) | {"max_move": "1"}}}, "max_move must be a number"),
        ({"tensors": {"lr_head.bias": None}}, r"missing \['lr_head.bias'\]"),
        ({"tensors": {"extra": np.zeros(1, np.float32)}}, r"unknown \['extra'\]"),
        ({"tensors": {"lr_head.bias": np.zeros(2, np.float32)}}, "lr_head.bias must be float32"),
        ({"tensors": {"lr_head.bias": np.zeros(1, np.float64)}}, "lr_head.bias must be float32"),
        ({"tensors": {"lr_head.bias": np.full(1, np.nan, np.float32)}}, "lr_head.bias must be finite"),
        ({"tensors": {"trunk.0.bias": None}}, "trunk.0.bias must be a vector"),
        ({"tensors": {"trunk.0.bias": np.zeros((0,), np.float32)}}, "trunk.0.bias must be a vector"),
        ({"tensors": {"normalizer.run_std": np.zeros(F, np.float32)}}, "run_std must be at least 1e-06"),
        ({"tensors": {"normalizer.run_low": np.full(F, 99, np.float32)}}, "must be ordered"),
        ({"tensors": {str(i): np.zeros(1, np.float32) for i in range(200)}}, "fewer than 100"),
    ],
)
def test_a_tampered_file_is_refused(tmp_path, changes, words):
    path = write(tmp_path, **changes)
    with pytest.raises(PolicyFormatError, match=words):
        Policy.load(path)


def test_a_file_of_the_first_version_is_read_as_it_was_meant(tmp_path):
    fields = {"format_version": 1, "action": OLD_ACTION | {"max_move": 0.5}, "run_features": OLD_FEATURES}
    policy = Policy.load(write(tmp_path, OLD, fields))
    assert policy.metadata.action == ActionSpec(max_move=0.5, settling=0.0)


def test_a_policy_from_before_a_feature_does_not_see_it(tmp_path):
    policy = Policy.load(write(tmp_path, OLD, {"format_version": 2, "run_features": OLD_FEATURES}))
    seen = observations(3)
    other = seen.copy()
    other[:, EPOCHS] += 1.0
    np.testing.assert_array_equal(policy.act(seen), policy.act(other))
    blind = seen.copy()
    blind[:, EPOCHS] = 0.0
    np.testing.assert_allclose(policy.act(seen), random_policy(0).act(blind), atol=1e-6)
    # It is written as one that could see it, and gives it no weight.
    again = Policy.load(policy.save(tmp_path / "again.safetensors"))
    np.testing.assert_array_equal(again.act(seen), policy.act(other))


class Boom:
    def __reduce__(self):
        return print, ("this code must never run",)


@pytest.mark.parametrize("kind", ["pickle", "torch", "empty", "noise", "truncated", "huge header", "too big"])
def test_what_is_no_policy_file_is_refused_and_runs_nothing(tmp_path, capsys, kind):
    good = random_policy(0).save(tmp_path / "good").read_bytes()
    path = tmp_path / "policy.safetensors"
    if kind == "torch":
        torch.save({"weights": Boom()}, path)
    else:
        contents = {
            "pickle": pickle.dumps(Boom()),
            "empty": b"",
            "noise": np.random.default_rng(0).bytes(1000),
            "truncated": good[: len(good) // 2],
            "huge header": struct.pack("<Q", 2**63) + good[8:],
            "too big": good + bytes(2**24),
        }
        path.write_bytes(contents[kind])
    with pytest.raises(PolicyFormatError, match="pickle" if kind in {"pickle", "torch"} else "."):
        Policy.load(path)
    assert capsys.readouterr().out == ""


def test_every_truncation_and_many_bit_flips_are_refused_or_harmless(tmp_path):
    good = random_policy(0, trunk=2, bucket=2).save(tmp_path / "good").read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / "mutated"
    mutants = [good[:length] for length in range(0, len(good), 37)]
    for _ in range(500):
        flipped = bytearray(good)
        flipped[rng.integers(len(good))] ^= 1 << int(rng.integers(8))
        mutants.append(bytes(flipped))
    refused = 0
    for mutant in mutants:
        path.write_bytes(mutant)
        try:
            assert np.isfinite(Policy.load(path).act(observations(2))).all()
        except PolicyFormatError:
            refused += 1
    assert refused > len(good) // 37


def test_a_missing_file_says_how_to_get_one(tmp_path):
    for missing in (tmp_path / "none.safetensors", "somebody/some-policy", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"rlsched train.*Nothing is ever downloaded"):
            Policy.load(missing)


def test_a_folder_that_holds_a_policy_will_do(tmp_path):
    policy = random_policy(0)
    policy.save(tmp_path / "snapshot" / "policy.safetensors")
    seen = observations(2)
    np.testing.assert_array_equal(Policy.load(tmp_path / "snapshot").act(seen), policy.act(seen))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}])
def test_metadata_that_is_no_json_cannot_be_saved(tmp_path, value):
    policy = random_policy(0)
    broken = Policy(policy.tensors, PolicyMetadata(evaluation={"score": value}))
    with pytest.raises(ValueError, match="metadata must be JSON"):
        broken.save(tmp_path / "policy.safetensors")
    assert not list(tmp_path.iterdir())


def test_mutated_files_are_refused_or_are_policies(tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = fuzz(4_500, tmp_path, seed=1)  # `python -m tests.fuzz` does 100,000
    assert len(found) == 9
    assert all(counts["refused"] > 400 for counts in found.values())
    assert sum(counts["read"] for counts in found.values()) > 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024, "kilobytes"


def test_a_policy_is_shown_in_a_line():
    assert repr(random_policy(0)) == "Policy(1,114 parameters, trained on unknown tasks)"
    assert repr(Policy.default()) == "Policy(11,362 parameters, trained on practice)"
