"""A run has its folder for itself; what is written there is whole."""

import json
import os
import signal
import socket
import subprocess
import sys

import pytest
from isometry.durable import sweep, write_whole
from isometry.runfolder import RunFolder

HOLD = """
import os, sys, time
from isometry.runfolder import RunFolder
run = RunFolder.open(sys.argv[1])
if sys.argv[2] == "with a forked worker":
    ready, say = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.write(say, b"!")  # a child lets go of the lock as its first act: killed before, the parent tests nothing
        time.sleep(60)
        os._exit(0)
    os.read(ready, 1)
    print(worker, flush=True)
else:
    print(0, flush=True)
time.sleep(60)
"""


def holder(path, how="alone"):
    """A process that holds the lock of the run, and its worker's pid."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path), how], stdout=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def test_a_new_run_has_its_folder_and_its_names(tmp_path):
    with RunFolder.open(tmp_path / "deep" / "run") as run:
        assert run.path.is_dir()
        assert run.settings == run.path / "settings.json"
        assert run.events == run.path / "events.jsonl"
        assert run.checkpoints == run.path / "checkpoints"
        assert json.loads((run.path / ".lock").read_text())["pid"] == os.getpid()
    with RunFolder.open(tmp_path / "deep" / "run"):
        pass  # the same command again


def test_a_second_run_is_refused_in_one_line_that_names_the_first(tmp_path):
    process, _ = holder(tmp_path / "run")
    with pytest.raises(BlockingIOError) as caught:
        RunFolder.open(tmp_path / "run")
    line = str(caught.value)
    assert f"in use by process {process.pid} on {socket.gethostname()} since " in line
    assert "\n" not in line
    process.kill()
    process.wait()


def test_within_one_process_too(tmp_path):
    with (
        RunFolder.open(tmp_path / "run"),
        pytest.raises(BlockingIOError, match=f"process {os.getpid()}"),
        RunFolder.open(tmp_path / "run"),
    ):
        pass
    RunFolder.open(tmp_path / "run").close()


@pytest.mark.parametrize("how", ["alone", "with a forked worker"])
def test_the_lock_is_free_after_kill_9_even_if_a_worker_lives_on(tmp_path, how):
    process, worker = holder(tmp_path / "run", how)
    (tmp_path / "run" / ".tmp-1-scores.json").write_text("half")
    (tmp_path / "run" / "checkpoints" / ".tmp-1-step-00000001").mkdir(parents=True)
    process.kill()
    process.wait()
    try:
        with RunFolder.open(tmp_path / "run") as run:
            assert os.listdir(run.checkpoints) == []
            assert sorted(os.listdir(run.path)) == [".lock", "checkpoints"]
    finally:
        if worker:
            os.kill(worker, signal.SIGKILL)


def test_a_child_that_ends_does_not_free_its_parents_lock(tmp_path):
    with RunFolder.open(tmp_path / "run"):
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        with pytest.raises(BlockingIOError):
            RunFolder.open(tmp_path / "run")


def test_a_lock_of_any_content_is_no_obstacle(tmp_path):
    with RunFolder.open(tmp_path / "run") as run:
        run.checkpoints.mkdir()
        run.write_json("settings.json", {})
    for content in ("", "garbage", '{"pid": 1, "host": "' + "x" * 500 + '"}', '{"pid": '):
        (tmp_path / "run" / ".lock").write_text(content)
        with RunFolder.open(tmp_path / "run") as run:
            assert json.loads((run.path / ".lock").read_text())["pid"] == os.getpid()


def test_a_folder_of_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "data.csv").write_text("1,2")
    with pytest.raises(FileExistsError, match="holds files but no run: choose a new or empty folder"):
        RunFolder.open(tmp_path)
    assert os.listdir(tmp_path) == ["data.csv"]
    (tmp_path / ".lock").write_text("of another program")
    with pytest.raises(FileExistsError):
        RunFolder.open(tmp_path)


def test_an_empty_folder_is_taken(tmp_path):
    RunFolder.open(tmp_path).close()
    assert os.listdir(tmp_path) == [".lock"]


def test_a_file_in_the_way_is_a_clear_error(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(NotADirectoryError, match="a file is in the way"):
        RunFolder.open(tmp_path / "run")
    with pytest.raises(NotADirectoryError, match=r"the folder cannot be made \(Not a directory, .*choose another"):
        RunFolder.open(tmp_path / "run" / "below")
    assert (tmp_path / "run").read_text() == "mine"


def test_reading_asks_for_a_run_and_takes_no_lock(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such run folder"):
        RunFolder.existing(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="not a run folder"):
        RunFolder.existing(tmp_path)
    with RunFolder.open(tmp_path / "run") as run:
        run.write_json("scores.json", {"mae": 0.5})
        assert RunFolder.existing(run.path).read_json("scores.json") == {"mae": 0.5}
        with pytest.raises(FileNotFoundError, match="no such file"):
            run.read_json("settings.json")
        run.write_text("settings.json", "{")
        with pytest.raises(ValueError, match="not valid JSON"):
            run.read_json("settings.json")


def test_a_run_copied_without_its_hidden_file_is_still_a_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "settings.json").write_text("{}")
    assert RunFolder.existing(tmp_path).path == tmp_path
    RunFolder.open(tmp_path).close()


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    write_whole(tmp_path / "scores.json", "old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(
        OSError, match=r"scores\.json: not written .No space left on device.: 3 bytes needed, [\d,]+ bytes"
    ):
        write_whole(tmp_path / "scores.json", "new")
    assert (tmp_path / "scores.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["scores.json"]


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"p\.csv: not written .*: there is no folder .*/none; make it first"):
        write_whole(tmp_path / "none" / "p.csv", "x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "a/b", "", "."])
def test_a_file_of_a_run_lies_in_its_folder(tmp_path, name):
    with RunFolder.open(tmp_path / "run") as run, pytest.raises(ValueError, match="directly in its folder"):
        run.write_text(name, "x")


def test_sweeping_follows_no_links_and_spares_everything_else(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_text("x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".tmp-1-link").symlink_to(tmp_path / "precious")
    (tmp_path / "run" / ".tmp-2-file").write_text("x")
    (tmp_path / "run" / "tmp-3").write_text("x")
    assert sweep(tmp_path / "run") == [".tmp-1-link", ".tmp-2-file"]
    assert os.listdir(tmp_path / "run") == ["tmp-3"]
    assert (tmp_path / "precious" / "data").read_text() == "x"
