"""What identifies data is their content, and no folder of one machine."""

import hashlib

from isometry_data.checksums import checksums


def test_files_of_one_name_are_told_apart_by_the_folders_they_need(tmp_path):
    files = [tmp_path / place for place in ("a/train.gz", "b/train.gz", "c/b/train.gz", "c/test.gz")]
    for number, file in enumerate(files):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes([number]))
    found = checksums(files)
    assert list(found) == ["train.gz", "b/train.gz", "c/b/train.gz", "test.gz"]
    assert list(found.values()) == [hashlib.sha256(bytes([number])).hexdigest() for number in range(4)]


def test_the_same_contents_count_once(tmp_path):
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "t").write_bytes(b"x")
    assert list(checksums([tmp_path / "a/t", tmp_path / "b/t"])) == ["t"]
