"""Files appear whole or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.storage.atomic import atomic_open, write_bytes, write_json


def test_a_writer_that_fails_leaves_what_was_there(tmp_path: Path):
    path = tmp_path / "a.bin"
    write_bytes(path, b"old")
    with pytest.raises(RuntimeError), atomic_open(path) as stream:
        stream.write(b"new")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["a.bin"]


def test_what_a_killed_writer_left_is_gone_when_its_file_is_written_again(tmp_path: Path):
    path = tmp_path / "a.bin"
    child = os.fork()
    if child == 0:
        with atomic_open(path) as stream:
            stream.write(b"half of it")
            stream.flush()
            os._exit(9)  # as kill -9 ends it: nothing is tidied
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    write_bytes(path, b"whole")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a.bin", b"whole")]


def test_several_may_write_a_shared_path_at_once(tmp_path: Path):
    path = tmp_path / "thumbnail.jpg"
    content = b"x" * 100_000
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: write_bytes(path, content, shared=True), range(200)))
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("thumbnail.jpg", content)]


def test_json_is_the_same_bytes_for_the_same_value_and_refuses_what_is_no_number(tmp_path: Path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    write_json(tmp_path / "b.json", {"a": [1.5, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "c.json", float("nan"))
