"""What a process freed is given back to the system."""

import sys

import pytest
import torch
from isometry import heap as heap_module
from isometry.heap import Heap

MIB = 1 << 20


def resident() -> int:
    with open("/proc/self/statm") as told:
        return int(told.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux") or Heap()._trim is None, reason="needs Linux with glibc")
def test_freed_blocks_between_used_ones_are_given_back(monkeypatch):
    monkeypatch.setattr(heap_module, "SECONDS", 0.0)
    blocks = [torch.ones(16_000) for _ in range(4_000)]  # 64 kB each, too small to be a mapping of their own
    kept = blocks[::40]
    del blocks
    before = resident()
    Heap().clear()
    assert before - resident() > 100 * MIB
    assert all(bool((block == 1).all()) for block in kept)


def test_it_is_not_cleared_again_at_once(monkeypatch):
    heap, cleared = Heap(), []
    monkeypatch.setattr(heap, "_trim", cleared.append)
    heap.clear()
    assert not cleared
    monkeypatch.setattr(heap_module, "SECONDS", 0.0)
    heap.clear()
    assert cleared == [0]


def test_without_such_a_library_nothing_happens(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(heap_module, "SECONDS", 0.0)
    Heap().clear()
