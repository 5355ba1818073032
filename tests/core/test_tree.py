"""A nested state comes back exactly as it went in; what cannot come back is refused by name."""

import contextlib
import json
import math
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from isometry.tree import flattened, rebuilt

TENSOR_TYPES = [
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool, torch.complex64, torch.complex128),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
]


def through_disk(state):
    """The state after tensors went through safetensors and the skeleton through JSON text."""
    tensors, skeleton = flattened(state)
    return rebuilt(json.loads(json.dumps(skeleton)), safetensors.torch.load(safetensors.torch.save(tensors)))


def same(left, right):
    """Equal in type, value, order of keys and every bit of every number."""
    if type(left) is not type(right):
        return False
    if isinstance(left, torch.Tensor):
        alike = left.dtype == right.dtype and left.shape == right.shape
        return alike and raw_bytes(left) == raw_bytes(right)
    if isinstance(left, np.ndarray | np.generic):
        return left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes()
    if isinstance(left, dict):
        return list(left) == list(right) and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, float):
        return left.hex() == right.hex()
    return left == right


def raw_bytes(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


tensors = st.builds(
    lambda dtype, shape, seed: torch.from_numpy(np.asarray(np.random.default_rng(seed).normal(0, 4, shape))).to(dtype),
    st.sampled_from([dtype for dtype in TENSOR_TYPES if not dtype.is_complex and dtype != torch.bool]),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
    st.integers(0, 99),
)
arrays = st.builds(
    lambda dtype, shape: np.arange(math.prod(shape)).reshape(shape).astype(dtype),
    st.sampled_from(["f8", "f4", "i8", ">i4", "u1", "?", "c16", "U3", "M8[ns]"]),
    st.lists(st.integers(0, 3), max_size=3).map(tuple),
)
text = st.text(st.characters(), max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | text | st.binary(max_size=8) | tensors | arrays
states = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(text | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)
KINDS = ["dict", "items", "tuple", "int", "float", "bytes", "tensor", "array", "scalar", "dtype", "shape", "other"]
WORDS = ["x", "float32", "load", "<f8", "O", "0x10"]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KINDS), inner | st.sampled_from(WORDS), max_size=3)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(states)
def test_any_state_comes_back_exactly(state):
    assert same(through_disk(state), state)


@settings(deadline=None, max_examples=300)
@given(json_values)
def test_any_json_is_a_state_or_a_clear_error(skeleton):
    with contextlib.suppress(ValueError):
        rebuilt(skeleton, {"x": torch.arange(8.0)})


@pytest.mark.parametrize("dtype", TENSOR_TYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)], ids=str)
def test_tensors_of_every_type_and_shape_come_back(dtype, shape):
    tensor = torch.randint(0, 2, shape).to(dtype)
    assert same(through_disk([tensor]), [tensor])


EXTREMES = [2**63, -(2**63), -(2**63) - 1, 2**20000, -0.0, 5e-324, math.inf, -math.inf, math.nan]


@pytest.mark.parametrize("index", range(len(EXTREMES)))
def test_extreme_numbers_come_back(index):
    assert same(through_disk(EXTREMES[index]), EXTREMES[index])


def test_views_come_back_as_dense_tensors_of_the_same_numbers():
    whole = torch.arange(24).reshape(4, 6) * (1 + 2j)
    views = {"transposed": whole.T, "step": whole[::2, 1::3], "expanded": whole[0, 0].expand(3), "conj": whole.conj()}
    views |= {"whole": whole, "negative": whole.conj().imag, "part": whole[1]}
    back = through_disk(views)
    for name, view in views.items():
        assert torch.equal(back[name], view), name
        assert back[name].is_contiguous()


def test_a_tensor_that_appears_twice_is_stored_once_and_stays_one():
    shared = torch.ones(5)
    tensors, _ = flattened({"a": shared, "b": [shared]})
    assert len(tensors) == 1
    back = through_disk({"a": shared, "b": [shared]})
    back["a"].zero_()
    assert back["b"][0].sum() == 0


def test_restored_tensors_and_arrays_can_be_written_to():
    back = through_disk({"tensor": torch.ones(3), "raw": torch.ones(3, dtype=torch.complex128), "array": np.ones(3)})
    for value in back.values():
        value += 1


def test_the_state_of_module_optimizer_and_random_generators_comes_back():
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    model(torch.randn(5, 3)).square().sum().backward()
    optimizer.step()
    random = {
        "torch": torch.get_rng_state(),
        "numpy": np.random.get_state(),
        "new": np.random.default_rng(1).bit_generator.state,
    }
    state = {"model": dict(model.state_dict()), "optimizer": optimizer.state_dict(), "random": random}
    assert same(through_disk(state), state)


def test_ordered_dict_comes_back_as_a_dict_in_the_same_order():
    assert same(through_disk(OrderedDict(b=1, a=2)), {"b": 1, "a": 2})


@pytest.mark.parametrize(
    "bad",
    [
        {1, 2},
        object(),
        len,
        np.array([object()]),
        namedtuple("Pair", "x")(1),
        torch.ones(2, 2).to_sparse(),
        torch.ones(2, device="meta"),
        torch.float32,
    ],
    ids=lambda bad: type(bad).__name__,
)
def test_anything_else_is_refused_with_its_place(bad):
    with pytest.raises(TypeError, match=r"state\['optimizer'\]\[1\]\['x'\]"):
        flattened({"optimizer": [0, {"x": bad}]})


@pytest.mark.parametrize("key", [1.5, True, None, (1, 2), np.int64(3)], ids=repr)
def test_other_keys_are_refused_with_their_place(key):
    with pytest.raises(TypeError, match=r"state\['a'\] has the key"):
        flattened({"a": {key: 1}})


def test_a_state_that_contains_itself_is_refused():
    state = []
    state.append(state)
    with pytest.raises(TypeError, match="does it contain itself"):
        flattened(state)
