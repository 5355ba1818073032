"""A nested state as tensors plus a JSON skeleton, and back exactly, with no code in either.

The skeleton writes None, bool, int, finite floats, str and lists as themselves; everything else is an object with one
key that says what it is: {"dict": {...}}, {"items": [[key, value], ...]} (a dict with integer keys), {"tuple": [...]},
{"tensor": name}, {"array": name, ...}, {"float": "nan"}, {"int": "0x..."} beyond 64 bits, {"bytes": base64}.
A tensor's name is the Python expression that reaches it, such as "state['optimizer'][0]['exp_avg']".
"""

from __future__ import annotations

import base64
import math
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAX_DEPTH = 64
# What every safetensors since 0.5 knows; other types are stored as their bytes, and the skeleton says which type.
NATIVE = frozenset(
    {torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool}
    | {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8}
)
ARRAY_KINDS = "biufcSUmM"  # NumPy kinds that are plain bytes: no objects, no records

Skeleton = Any  # what json.dumps takes


def flattened(state: Any, root: str = "state") -> tuple[dict[str, Tensor], Skeleton]:
    """The tensors of a nested state by name, and its JSON skeleton.

    Takes dicts with str or int keys, lists, tuples, int, float, str, bool, None, bytes, tensors of any dtype, NumPy
    arrays and scalars. The tensors that come out are dense, contiguous, on the CPU and share no memory; one that
    appears twice is stored once. Raises TypeError naming the place of anything else.
    """
    writer = _Writer()
    return writer.tensors, writer.encode(state, root, 0)


def rebuilt(skeleton: Skeleton, tensors: dict[str, Tensor]) -> Any:
    """The state that `flattened` took; tensors are on the CPU and detached. Raises ValueError on a foreign skeleton."""
    if skeleton is None or isinstance(skeleton, bool | int | float | str):
        return skeleton
    if isinstance(skeleton, list):
        return [rebuilt(item, tensors) for item in skeleton]
    try:
        kind = next(iter(skeleton))
        return _READERS[kind](skeleton, tensors)
    except (LookupError, TypeError, AttributeError, RuntimeError, OverflowError, StopIteration) as error:
        raise ValueError(f"not the skeleton of a state: {str(skeleton)[:80]} ({error!r})") from None


def named(tensors: dict[str, Tensor], root: str) -> tuple[dict[str, Tensor], dict[str, Skeleton]]:
    """Tensors as `flattened` stores them, under their own names, and the skeletons of those stored as bytes.

    Tied tensors are stored once for each name, so that a reader without the skeletons misses none.
    """
    memory: set[int] = set()
    stored: dict[str, Tensor] = {}
    unusual: dict[str, Skeleton] = {}
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or type(name) is not str or name == "__metadata__":
            raise TypeError(f"{root}[{name!r}] is a {type(tensor).__name__}: expected a tensor under a free name")
        stored[name] = _unshared(_stored(tensor, f"{root}[{name!r}]"), memory)
        if tensor.dtype not in NATIVE:
            unusual[name] = _skeleton(tensor, name)
    return stored, unusual


def _stored(tensor: Tensor, where: str) -> Tensor:
    """The same numbers, dense, on the CPU, as their bytes if safetensors may not know the type. Raises TypeError."""
    if type(tensor) not in (Tensor, torch.nn.Parameter):
        raise TypeError(f"{where} is a {type(tensor).__name__}: gather it into a plain tensor first")
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.is_nested:
        raise TypeError(f"{where} is a sparse, quantized, nested or meta tensor: make it dense first")
    plain = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    if tensor.dtype in NATIVE:
        return plain
    # An empty tensor may have stride 0, under which torch refuses the view.
    return plain.reshape(-1).view(torch.uint8) if plain.numel() else torch.empty(0, dtype=torch.uint8)


def _skeleton(tensor: Tensor, name: str) -> Skeleton:
    if tensor.dtype in NATIVE:
        return {"tensor": name}
    return {"tensor": name, "dtype": str(tensor.dtype).removeprefix("torch."), "shape": list(tensor.shape)}


def _unshared(tensor: Tensor, memory: set[int]) -> Tensor:
    """`tensor`, or a copy if its memory is among `memory`, which it joins: safetensors refuses shared memory."""
    address = tensor.untyped_storage().data_ptr()
    if address and address in memory:
        return tensor.clone()
    memory.add(address)
    return tensor


class _Writer:
    """Collects the tensors while the skeleton is built."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.memory: set[int] = set()
        self.known: dict[tuple[Any, ...], str] = {}  # what a tensor looks at -> its name

    def encode(self, value: Any, where: str, depth: int) -> Skeleton:
        if depth > MAX_DEPTH:
            raise TypeError(f"{where[:80]}… is nested deeper than {MAX_DEPTH} levels: does it contain itself?")
        kind = type(value)
        if value is None or kind in (bool, str):
            return value
        if kind is int:
            return value if -(2**63) <= value < 2**63 else {"int": hex(value)}
        if kind is float:
            return value if math.isfinite(value) else {"float": str(value)}
        if kind is bytes:
            return {"bytes": base64.b64encode(value).decode("ascii")}
        if kind is list:
            return self.encode_each(value, where, depth)
        if kind is tuple:
            return {"tuple": self.encode_each(value, where, depth)}
        if kind in (dict, OrderedDict):
            return self.encode_dict(value, where, depth)
        if isinstance(value, Tensor):
            return self.encode_tensor(value, where)
        if isinstance(value, np.ndarray | np.generic):
            return self.encode_array(value, where)
        raise TypeError(f"{where} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot hold")

    def encode_each(self, items: list[Any] | tuple[Any, ...], where: str, depth: int) -> list[Skeleton]:
        return [self.encode(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(items)]

    def encode_dict(self, items: dict[Any, Any], where: str, depth: int) -> Skeleton:
        for key in items:
            if type(key) not in (str, int):
                raise TypeError(f"{where} has the key {key!r}: keys must be str or int")
        values = [(key, self.encode(value, f"{where}[{key!r}]", depth + 1)) for key, value in items.items()]
        if all(type(key) is str for key in items):
            return {"dict": dict(values)}
        return {"items": [[self.encode(key, where, depth), value] for key, value in values]}

    def encode_tensor(self, tensor: Tensor, where: str) -> Skeleton:
        stored = _stored(tensor, where)
        look = (tensor.device, tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
        look = (*look, tensor.is_conj(), tensor.is_neg())
        name = self.known.setdefault(look, where) if tensor.numel() else where
        if name == where:
            self.tensors[name] = _unshared(stored, self.memory)
        return _skeleton(tensor, name)

    def encode_array(self, array: np.ndarray | np.generic, where: str) -> Skeleton:
        if array.dtype.kind not in ARRAY_KINDS or type(array) is np.ma.MaskedArray:
            raise TypeError(f"{where} is a NumPy array of {array.dtype}, which a checkpoint cannot hold")
        self.tensors[where] = torch.frombuffer(bytearray(array.tobytes()) or bytearray(1), dtype=torch.uint8)
        kind = "array" if isinstance(array, np.ndarray) else "scalar"
        return {kind: where, "dtype": array.dtype.str, "shape": list(array.shape)}


def _read_tensor(skeleton: Skeleton, tensors: dict[str, Tensor]) -> Tensor:
    tensor = tensors[skeleton["tensor"]]
    if "dtype" not in skeleton:
        return tensor
    dtype = getattr(torch, skeleton["dtype"])
    if not isinstance(dtype, torch.dtype):
        raise TypeError(f"{skeleton['dtype']} is no type of tensor")
    return tensor.view(dtype).reshape(skeleton["shape"])


def _read_array(skeleton: Skeleton, tensors: dict[str, Tensor]) -> np.ndarray:
    dtype, shape = np.dtype(skeleton["dtype"]), tuple(skeleton["shape"])
    if dtype.kind not in ARRAY_KINDS:
        raise ValueError(f"a NumPy array of {dtype} has no place in a state")
    content = tensors[skeleton.get("array", skeleton.get("scalar"))].numpy().tobytes()
    return np.frombuffer(content, dtype, count=math.prod(shape)).reshape(shape).copy()


_READERS = {
    "dict": lambda it, tensors: {key: rebuilt(value, tensors) for key, value in it["dict"].items()},
    "items": lambda it, tensors: {rebuilt(key, tensors): rebuilt(value, tensors) for key, value in it["items"]},
    "tuple": lambda it, tensors: tuple(rebuilt(item, tensors) for item in it["tuple"]),
    "int": lambda it, tensors: int(it["int"], 16),
    "float": lambda it, tensors: float(it["float"]),
    "bytes": lambda it, tensors: base64.b64decode(it["bytes"], validate=True),
    "tensor": _read_tensor,
    "array": _read_array,
    "scalar": lambda it, tensors: _read_array(it, tensors)[()],
}
