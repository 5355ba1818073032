"""What the event log promises: whole lines of strict JSON, cut exactly where a checkpoint says."""

import errno
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from isometry.events import Broadcast, Ledger, TensorBoard, encode, event, read_events


def step(number: int, **fields) -> dict:
    return event("step", step=number, epoch=1, loss=1.0 / number, parts={"energy": 0.5 / number}, **fields)


def test_events_come_back_as_written(tmp_path):
    ledger = Ledger(tmp_path / "events.jsonl")
    written = [event("start", run="Å"), step(1), event("fault", kind="loss", records=["a", "b"], scale=None)]
    for one in written:
        ledger(one)
    assert read_events(ledger.path) == written


def test_a_line_is_readable_as_soon_as_the_call_returns(tmp_path):
    ledger = Ledger(tmp_path / "events.jsonl")
    for number in (1, 2, 3):
        ledger(step(number))
        assert read_events(ledger.path)[-1]["step"] == number


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_survives_in_strict_json(tmp_path, value):
    ledger = Ledger(tmp_path / "events.jsonl")
    ledger(step(1, rate=value, scores={"mae": value}, rows=[1.0, value]))

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    json.loads(ledger.path.read_text(), parse_constant=refuse)
    (found,) = read_events(ledger.path)
    assert repr([found["rate"], found["scores"]["mae"], found["rows"][1]]) == repr([value] * 3)


def test_numpy_torch_and_paths_become_json():
    line = encode(event("eval", a=np.float32(0.5), b=torch.tensor([1.0, math.nan]), c=Path("x"), d=(1, 2)))
    found = json.loads(line)
    assert (found["a"], found["b"], found["c"], found["d"]) == (0.5, [1.0, "NaN"], "x", [1, 2])


@pytest.mark.parametrize("n_bytes_lost", range(1, 40, 3))
def test_a_torn_last_line_is_passed_over_and_then_dropped(tmp_path, n_bytes_lost):
    path = tmp_path / "events.jsonl"
    path.write_bytes((encode(step(1)) + encode(step(2)))[:-n_bytes_lost])
    assert [one["step"] for one in read_events(path)] == [1]
    ledger = Ledger(path)
    assert path.stat().st_size == ledger.offset == len(path.read_bytes())
    ledger(step(3))
    assert [one["step"] for one in read_events(path)] == [1, 3]


def test_an_unreadable_line_before_the_last_is_an_error_with_its_place(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(encode(step(1)) + b"\0\0\0\n" + encode(step(2)))
    with pytest.raises(ValueError, match=r"events\.jsonl, line 2"):
        read_events(path)
    path.write_bytes(encode(step(1)) + b"\0\0\0\n")
    assert len(read_events(path)) == 1


def test_a_resumed_run_tells_every_step_once(tmp_path):
    ledger = Ledger(tmp_path / "events.jsonl")
    for number in range(1, 6):
        ledger(step(number))
        if number == 3:
            kept = ledger.sync()
    ledger.close()
    resumed = Ledger(tmp_path / "events.jsonl")
    resumed.truncate_to(kept)
    assert resumed.offset == kept
    for number in range(4, 8):
        resumed(step(number))
    assert [one["step"] for one in read_events(resumed.path)] == list(range(1, 8))


def test_truncation_never_grows_the_file_and_never_tears_a_line(tmp_path):
    ledger = Ledger(tmp_path / "events.jsonl")
    ledger(step(1))
    first = ledger.offset
    ledger(step(2))
    whole = ledger.offset
    ledger.truncate_to(10 * whole)
    assert ledger.offset == whole == ledger.path.stat().st_size
    ledger.truncate_to(whole - 1)
    assert ledger.offset == first == ledger.path.stat().st_size
    ledger.truncate_to(0)
    assert read_events(ledger.path) == []
    with pytest.raises(ValueError, match="-1 bytes"):
        ledger.truncate_to(-1)


def test_a_full_disk_is_told_and_leaves_no_half_line(tmp_path):
    pytest.importorskip("resource")
    code = """
import resource, signal, sys
from isometry.events import Ledger, event
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = Ledger(sys.argv[1])
ledger(event("note", message="fits"))
resource.setrlimit(resource.RLIMIT_FSIZE, (ledger.offset + 20, ledger.offset + 20))
try:
    ledger(event("note", message="does not fit"))
except OSError as error:
    print(error.errno, error.filename)
"""
    path = tmp_path / "events.jsonl"
    told = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout
    assert told.split() == [str(errno.EFBIG), str(path)]
    assert path.read_bytes().endswith(b"\n")
    assert [one["message"] for one in read_events(path)] == ["fits"]


def test_a_missing_log_is_one_clear_line(tmp_path):
    with pytest.raises(FileNotFoundError, match="no event log here"):
        read_events(tmp_path / "events.jsonl")


def test_broadcast_reaches_all_in_order_and_closes_all_even_if_one_fails():
    heard: list[tuple[str, object]] = []

    class Closing:
        def __init__(self, name, fails=False):
            self.name, self.fails = name, fails

        def __call__(self, event):
            heard.append((self.name, event["event"]))

        def close(self):
            heard.append((self.name, "closed"))
            if self.fails:
                raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"), Broadcast(Closing("a"), Closing("b", fails=True), print) as tell:
        tell(event("note", message="hello"))
    assert heard == [("a", "note"), ("b", "note"), ("b", "closed"), ("a", "closed")]


def test_importing_events_imports_neither_torch_nor_tensorboard():
    code = "import sys, isometry.events; print([m for m in ('torch', 'tensorboard', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_tensorboard_reads_what_was_written_and_forgets_what_came_after_the_checkpoint(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = TensorBoard(tmp_path)
    board(event("start", settings={"rate": math.nan}, resumed_at=None))
    for number in range(1, 6):
        board(step(number, rate=0.1, gradient_norm=2.0, scale=None))
    board(event("eval", step=5, epoch=1, split="valid", scores={"mae": 0.25}, loss=0.5, is_best=True))
    board(event("fault", step=5, kind="loss", records=["x"], message="not finite"))
    board.close()
    resumed = TensorBoard(tmp_path, resumed_at=3)
    resumed(step(4, rate=0.05, gradient_norm=math.inf, scale=2.0))
    resumed.close()
    found = accumulator.EventAccumulator(str(tmp_path)).Reload()
    assert [point.step for point in found.Scalars("train/loss")] == [1, 2, 3, 4]
    assert found.Scalars("train/rate")[-1].value == pytest.approx(0.05, rel=1e-6)
    assert found.Scalars("train/scale")[0].step == 4
    assert "train/energy" in found.Tags()["scalars"]
    assert "settings/text_summary" in found.Tags()["tensors"]
