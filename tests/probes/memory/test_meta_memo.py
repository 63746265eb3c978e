"""What is remembered of operations on meta tensors is what the operations themselves return."""

from __future__ import annotations

import pytest
import torch

from probes.memory.meta_memo import MetaMemo

aten = torch.ops.aten


def on_meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def counted(func, calls: list):
    """The operation, with a note of each real call; it declares what the operation declares."""

    def call(*args, **kwargs):
        calls.append(args)
        return func(*args, **kwargs)

    call._schema = func._schema
    return call


def metadata(result):
    tensors = [result] if isinstance(result, torch.Tensor) else list(result)
    return [(t.shape, t.stride(), t.dtype, t.device, t.untyped_storage().nbytes()) for t in tensors]


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (aten.mul.Tensor, (on_meta(4, 1), on_meta(1, 8, dtype=torch.bfloat16))),
        (aten.mm.default, (on_meta(4, 3), on_meta(8, 3).t())),
        (aten.cat.default, ([on_meta(2, 3), on_meta(5, 3)],)),
        (aten.native_layer_norm.default, (on_meta(2, 8), [8], on_meta(8), None, 1e-5)),
        (aten.add.Tensor, (on_meta(2, dtype=torch.int64), 1.0)),
        (aten._foreach_sqrt.default, ([on_meta(2), on_meta(3)],)),
    ],
)
def test_the_second_call_gives_new_tensors_like_those_of_the_first(func, args):
    calls: list = []
    operation, memo = counted(func, calls), MetaMemo()
    first, second = (memo.call(operation, args, {}) for _ in range(2))
    assert len(calls) == 1
    assert type(first) is type(second)
    assert metadata(first) == metadata(second) == metadata(func(*args))
    storages = [t.untyped_storage()._cdata for r in (first, second) for t in ([r] if torch.is_tensor(r) else r)]
    assert len(set(storages)) == len(storages)


@pytest.mark.parametrize(
    ("func", "args"),
    [
        (aten.view.default, (on_meta(4, 2), [8])),
        (aten.add_.Tensor, (on_meta(4), on_meta(4))),
        (aten.to.dtype, (on_meta(4), torch.float32)),
        (aten.mul.Tensor, (on_meta(4), torch.tensor(2.0))),
    ],
    ids=["a view", "in place", "perhaps the argument itself", "a tensor with values"],
)
def test_what_may_depend_on_more_than_shapes_is_called_each_time(func, args):
    calls: list = []
    operation, memo = counted(func, calls), MetaMemo()
    for _ in range(2):
        memo.call(operation, args, {})
    assert len(calls) == 2


def test_a_result_that_is_still_to_be_conjugated_is_not_remembered():
    memo = MetaMemo()

    def conjugated(x):
        return torch.empty_like(x).conj()

    conjugated._schema = aten.neg.default._schema
    results = [memo.call(conjugated, (on_meta(3, dtype=torch.complex64),), {}) for _ in range(2)]
    assert [result.is_conj() for result in results] == [True, True]


def test_an_operation_that_calls_others_in_sight_is_called_each_time():
    calls: list = []
    memo = MetaMemo()

    def outer(x):
        calls.append(x)
        return memo.call(aten.mul.Tensor, (x, 2.0), {})

    outer._schema = aten.neg.default._schema
    for _ in range(2):
        memo.call(outer, (on_meta(4),), {})
    assert len(calls) == 2


def test_a_list_filled_in_place_is_filled_once():
    calls: list = []
    operation, memo = counted(aten._foreach_add_.Scalar, calls), MetaMemo()
    assert [memo.call(operation, ([on_meta(2)], 1.0), {}) for _ in range(2)] == [None, None]
    assert len(calls) == 1


def test_a_conjugation_still_to_be_done_makes_another_argument():
    calls: list = []
    memo, operation = MetaMemo(), counted(aten.sum.default, calls)
    plain = on_meta(3, dtype=torch.complex64)
    for tensor in (plain, plain.conj(), plain, plain.conj()):
        memo.call(operation, (tensor,), {})
    assert len(calls) == 2


def test_numbers_of_different_types_are_different_arguments():
    memo, whole = MetaMemo(), on_meta(2, dtype=torch.int64)
    assert memo.call(aten.add.Tensor, (whole, 1), {}).dtype == torch.int64
    assert memo.call(aten.add.Tensor, (whole, 1.0), {}).dtype == torch.float32


def test_errors_are_not_remembered():
    memo = MetaMemo()
    for _ in range(2):
        with pytest.raises(RuntimeError):
            memo.call(aten.mm.default, (on_meta(2, 3), on_meta(2, 3)), {})
