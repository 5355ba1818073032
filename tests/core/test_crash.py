"""Whatever kills the writer or fails under it, the newest checkpoint loads and is the last one reported saved."""

import errno
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from isometry.checkpoint import Vault
from isometry.runfolder import RunFolder

WRITER = Path(__file__).with_name("crashing_writer.py")


def deaths(*arguments):
    """What the crashing writer prints; its assertions are the claims."""
    done = subprocess.run([sys.executable, WRITER, *map(str, arguments)], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def saved(vault, step, n=10):
    return vault.save(step, {"w": torch.full((n,), float(step))}, {"step": step})


def test_killed_at_random_moments_nothing_reported_is_lost(tmp_path):
    assert len(deaths("kill", tmp_path / "run", 8)) == 8


@pytest.mark.slow
def test_killed_a_hundred_times_nothing_reported_is_lost(tmp_path):
    found = deaths("kill", tmp_path / "run", 100)
    assert len(found) == 100
    assert any(death["litter"] for death in found), "no kill hit a save: the test is too kind"


def test_killed_before_any_call_the_folder_stays_good(tmp_path):
    found = [death["found"] for death in deaths("exit", tmp_path / "run")]
    assert found == sorted(found)
    assert {2, 3} == set(found)


@pytest.mark.parametrize("number", ["ENOSPC", pytest.param("EIO", marks=pytest.mark.slow)])
def test_if_any_call_fails_the_folder_stays_good_and_the_error_is_clear(tmp_path, number):
    assert {death["status"] for death in deaths("fail", tmp_path / "run", number)} == {0, 3, 4}


@contextmanager
def file_size_limit(n_bytes):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder, n_bytes):
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip(f"cannot mount a small disk: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def check_refused(vault, n, number):
    """A save of n numbers fails clearly; the checkpoint of step 1 is untouched and alone."""
    with pytest.raises(OSError, match=r"step-00000002: not written") as caught:
        saved(vault, 2, n)
    line = str(caught.value)
    assert caught.value.errno == number
    assert "\n" not in line
    needed = int(line.split(" bytes needed")[0].split()[-1].replace(",", ""))
    assert 4 * n <= needed <= 4 * n + 1000
    assert "bytes free; free some space" in line
    assert os.listdir(vault.folder) == ["step-00000001"]
    assert vault.newest().step == 1


def test_a_file_size_limit_leaves_the_older_checkpoint(tmp_path):
    vault = Vault(tmp_path / "checkpoints")
    saved(vault, 1)
    with file_size_limit(50_000):
        check_refused(vault, 100_000, errno.EFBIG)
    saved(vault, 3, 100_000)
    assert vault.newest().step == 3


def test_a_full_disk_leaves_the_older_checkpoint(tmp_path):
    with small_disk(tmp_path / "disk", 4_000_000) as disk, RunFolder.open(disk / "run") as run:
        vault = Vault(run.checkpoints)
        saved(vault, 1)
        check_refused(vault, 2_000_000, errno.ENOSPC)
        with pytest.raises(OSError, match=r"scores.json: not written .*bytes needed.*bytes free"):
            run.write_text("scores.json", "0" * 5_000_000)
        assert sorted(os.listdir(run.path)) == [".lock", "checkpoints"]
        saved(vault, 3)
        assert vault.newest().step == 3


def test_a_full_disk_refuses_a_new_run_and_leaves_nothing(tmp_path):
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        with pytest.raises(OSError, match="No space left"):
            (disk / "filler").write_bytes(b"0" * 2_000_000)
        with pytest.raises(OSError, match=r"bytes free"):
            RunFolder.open(disk / "run")
        assert os.listdir(disk) == ["filler"]


def test_a_folder_deleted_under_the_run_is_a_clear_error(tmp_path):
    with RunFolder.open(tmp_path / "run") as run:
        vault = Vault(run.checkpoints)
        saved(vault, 1)
        subprocess.run(["rm", "-r", str(run.path)], check=True)
        with pytest.raises(OSError, match=r"step-0000000.: not written .*choose another one"):
            saved(vault, 2)
        assert not run.path.exists()


def test_a_folder_without_the_right_to_write_is_a_clear_error(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    vault = Vault(tmp_path / "checkpoints")
    saved(vault, 1)
    vault.folder.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="choose a folder you may write to"):
            saved(vault, 2)
        assert vault.newest().step == 1
    finally:
        vault.folder.chmod(0o700)


def test_ctrl_c_in_the_middle_of_a_save_leaves_nothing_half_written(tmp_path, monkeypatch):
    vault = Vault(tmp_path / "checkpoints")
    saved(vault, 1)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("isometry.checkpoint.sync_folder", interrupt)
    with pytest.raises(KeyboardInterrupt):
        saved(vault, 2)
    assert os.listdir(vault.folder) == ["step-00000001"]
