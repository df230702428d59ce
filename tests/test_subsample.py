"""Which elements of a large model are measured."""

import numpy as np
import pytest
import torch

from rlsched.subsample import BLOCK, Subsample


def numbered(*shapes, dtype=torch.float32):
    """Tensors whose elements count up from zero, from one tensor to the next."""
    ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
    ranges = (
        torch.arange(end - np.prod(shape), end, dtype=dtype) for end, shape in zip(ends, shapes, strict=True)
    )
    return [values.reshape(shape) for values, shape in zip(ranges, shapes, strict=True)]


def slow(parameters, elements):
    """The same, element by element: each place is in a block of every s-th; one that a parameter begins or ends in
    the middle of is left out."""
    total = sum(p.numel() for p in parameters)
    stride = -(-total // elements) | 1
    chosen, place = [], 0
    for parameter in parameters:
        flat, begun, taken = parameter.reshape(-1), False, []
        for value in flat:
            at = place % (stride * BLOCK)
            begun = begun or at == 0
            if begun and at < BLOCK:
                taken.append(float(value))
            place += 1
        chosen.append(taken[: len(taken) // BLOCK * BLOCK])
    return chosen


@pytest.mark.parametrize(
    "shapes",
    [[(40, 30)], [(7, 100), (13,), (3, 5, 70), (2,)], [(1,)] * 900, [(8,), (16, 64), (0, 4), (2000,)]],
)
def test_every_so_many_blocks_are_taken_of_a_large_model(shapes):
    parameters = numbered(*shapes)
    sample, expected = Subsample(parameters, 100), slow(parameters, 100)
    values = sample.read(parameters)
    assert values.tolist() == [value for each in expected for value in each]
    norms = [np.linalg.norm(each) for each in expected]
    np.testing.assert_allclose(sample.norms(values.numpy()), norms, rtol=1e-6)
    assert sample.matrices.tolist() == [len(shape) > 1 for shape in shapes]


def test_all_of_a_small_model_is_taken():
    parameters = numbered((5, 4), (2,))
    assert Subsample(parameters, 22).read(parameters).tolist() == list(range(22))
    assert Subsample(parameters, 21).read(parameters).tolist() == list(range(BLOCK))


def test_every_column_of_a_matrix_is_as_likely():
    """A stride in step with the width would see some of them alone."""
    parameters = numbered((256, 64))
    places = Subsample(parameters, 2**11).read(parameters).numpy().astype(int)
    seen = np.bincount(places % 64, minlength=64)
    assert len(places) == pytest.approx(2**11, rel=0.15)
    assert seen.min() > 0.7 * seen.mean()


def test_what_is_read_is_a_copy_in_the_widest_precision():
    parameters = [*numbered((4,), dtype=torch.float16), *numbered((3,), dtype=torch.float64)]
    values = Subsample(parameters, 100).read([parameter + 1 for parameter in parameters])
    assert values.dtype == torch.float64
    assert values.tolist() == [1, 2, 3, 4, 1, 2, 3]
    single = numbered((4,))
    copy = Subsample(single, 100).read(single)
    copy += 1
    assert single[0].tolist() == [0, 1, 2, 3]


def test_a_rank_that_holds_nothing_measures_nothing():
    nothing = [torch.zeros(0), torch.zeros(0, 3)]
    sample = Subsample(nothing, 100)
    assert sample.read(nothing).shape == (0,)
    assert sample.norms(sample.read(nothing).numpy()).tolist() == [0.0, 0.0]
