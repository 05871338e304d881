"""Triton's pack and unpack launchers against the reference, bit for bit."""

import pytest
import torch
from torch import Tensor

from lsm2_kernels import reference
from lsm2_kernels.triton import launch

NUM_ROWS = 37
INDICES = {
    "some": [3, 36, 0, 11, 12],
    "outside": [5, -1, NUM_ROWS, 4, 2**40, -(2**40), 36],
    "all_backwards": list(range(NUM_ROWS))[::-1],
    "none": [],
    "all_outside": [NUM_ROWS] * 3,
}
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int64, torch.uint8, torch.bool]


def make_rows(*shape: int, dtype: torch.dtype = torch.float32, device: torch.device) -> Tensor:
    numbers = torch.randint(-100, 100, shape, generator=torch.Generator().manual_seed(0))
    return (numbers > 0 if dtype == torch.bool else numbers.to(dtype)).to(device)


def assert_same(device: torch.device, x: Tensor, indices: list[int], fill: Tensor | None = None) -> None:
    where = torch.tensor(indices, dtype=torch.int64, device=device)
    packed = launch.pack(x, where)
    assert torch.equal(packed, reference.pack(x, where))
    assert packed.is_contiguous()
    for filling in (None, fill):
        unpacked = launch.unpack(packed, where, filling, x.shape[0])
        assert torch.equal(unpacked, reference.unpack(packed, where, filling, x.shape[0]))


@pytest.mark.parametrize("indices", INDICES.values(), ids=INDICES)
def test_indices(device, indices):
    x = make_rows(NUM_ROWS, 5, 3, device=device)
    assert_same(device, x, indices, fill=x[7])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(device, dtype):
    x = make_rows(NUM_ROWS, 9, dtype=dtype, device=device)
    assert_same(device, x, INDICES["outside"], fill=x[2])


@pytest.mark.parametrize("trailing", [(), (1,), (8, 8), (384,), (1031,), (0,)], ids=str)
def test_widths(device, trailing):
    x = make_rows(NUM_ROWS, *trailing, device=device)
    assert_same(device, x, INDICES["outside"], fill=x[1])


def test_strided_rows(device):
    x = make_rows(NUM_ROWS, 6, 4, device=device)
    assert_same(device, x.transpose(1, 2), INDICES["some"], fill=x[1].T)
    assert_same(device, x[:, 1:3], INDICES["some"])
    assert_same(device, x[:, 0, ::2], INDICES["some"])
    assert_same(device, x[::2], [18, 3, 50])


def test_no_rows(device):
    x = make_rows(0, 6, device=device)
    assert_same(device, x, [0, -1])
    assert (
        launch.unpack(x, torch.zeros(0, dtype=torch.int64, device=device), None, 3).tolist() == [[0] * 6] * 3
    )


def test_nan_bits_survive(device):
    bits = torch.tensor([0x7FC01234, 0x7F800001, -1], dtype=torch.int32, device=device)
    x = bits.view(torch.float32)[:, None]
    assert torch.equal(
        launch.pack(x, torch.tensor([2, 0, 1], device=device)).view(torch.int32)[:, 0], bits[[2, 0, 1]]
    )


def test_repeated_indices_keep_the_last(device):
    x = make_rows(3000, 2, device=device)
    unpacked = launch.unpack(x, torch.full((3000,), 1, device=device), None, 2)
    assert torch.equal(unpacked, torch.stack((torch.zeros_like(x[0]), x[-1])))
