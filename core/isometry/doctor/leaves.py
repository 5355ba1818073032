"""The real-valued tensors of a batch, whatever its form, and the same batch with others in their place."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

Path = tuple[Any, ...]
"""Where a leaf lies: the keys, positions and attribute names that lead to it."""


def float_leaves(batch: Any) -> dict[Path, Tensor]:
    """Every tensor of real or complex numbers in tensors, mappings, sequences, (named) tuples, packed sequences,
    dataclasses, graph data with an `apply` method, and plain objects; by its path, in a fixed order."""
    return {path: leaf for path, leaf in tensors(batch).items() if leaf.is_floating_point() or leaf.is_complex()}


def tensors(batch: Any) -> dict[Path, Tensor]:
    """As `float_leaves`, with tensors of every other kind."""
    found: dict[Path, Tensor] = {}

    def note(path: Path, leaf: Tensor) -> Tensor:
        found[path] = leaf
        return leaf

    _walked(batch, (), note)
    return found


def replaced(batch: Any, leaves: Mapping[Path, Tensor]) -> Any:
    """A copy of the batch with these leaves; what is not named is shared with the original, which stays as it is."""
    return _walked(batch, (), lambda path, leaf: leaves.get(path, leaf))


def first_float(value: Any) -> Tensor | None:
    """The first real-valued tensor of what a layer is given or hands back."""
    if type(value) in (tuple, list):  # nearly always, and quicker than a walk with copies
        return next((found for part in value if (found := first_float(part)) is not None), None)
    if isinstance(value, Tensor):
        return value if value.is_floating_point() or value.is_complex() else None
    return next(iter(float_leaves(value).values()), None)


def _walked(node: Any, path: Path, visit: Callable[[Path, Tensor], Tensor]) -> Any:
    if isinstance(node, Tensor):
        return visit(path, node)
    if isinstance(node, Mapping) and not hasattr(node, "apply"):
        return _like(node, {key: _walked(value, (*path, key), visit) for key, value in node.items()})
    if isinstance(node, tuple) and hasattr(node, "_fields"):  # a packed sequence is one
        return type(node)(*(_walked(value, (*path, i), visit) for i, value in enumerate(node)))
    if isinstance(node, Sequence) and not isinstance(node, str | bytes | range):
        return type(node)(_walked(value, (*path, i), visit) for i, value in enumerate(node))  # type: ignore[call-arg]
    if isinstance(node, nn.Module | type):
        return node
    if hasattr(node, "apply"):  # graph data: it walks itself, in place and always in the same order
        places = _counted(path)
        return copy.copy(node).apply(lambda leaf: visit(next(places), leaf))  # pyright: ignore
    if dataclasses.is_dataclass(node) or (hasattr(node, "__dict__") and not callable(node)):
        return _with_attributes(node, path, visit)
    return node


def _like(node: Mapping[Any, Any], items: dict[Any, Any]) -> Mapping[Any, Any]:
    if type(node) is dict:
        return items
    rebuilt = copy.copy(node)
    rebuilt.update(items)  # type: ignore[attr-defined]
    return rebuilt


def _counted(path: Path) -> Iterator[Path]:
    place = 0
    while True:
        yield (*path, place)
        place += 1


def _with_attributes(node: Any, path: Path, visit: Callable[[Path, Tensor], Tensor]) -> Any:
    names = [field.name for field in dataclasses.fields(node)] if dataclasses.is_dataclass(node) else list(vars(node))
    rebuilt = copy.copy(node)
    for name in names:
        value = getattr(node, name)
        walked = _walked(value, (*path, name), visit)
        if walked is not value:
            object.__setattr__(rebuilt, name, walked)  # a frozen dataclass lets nobody else
    return rebuilt
