"""What is written is there whole or not at all."""

import os
import subprocess

import pytest

from rs05bench.protocol.atomic import clear_leftovers, hidden_sibling, remove_folder, write_json, write_text, writing


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    target = write_text(tmp_path / "a.txt", "old")

    def fill(part):
        part.write_text("new, but cut")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), writing(target) as part:
        fill(part)
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder_replaces_a_filled_one(tmp_path):
    for content in ("one", "two"):
        with writing(tmp_path / "out") as part:
            part.mkdir()
            (part / f"{content}.txt").write_text(content)
    assert names(tmp_path / "out") == ["two.txt"]
    assert names(tmp_path) == ["out"]


def test_what_exists_stays_where_the_first_writer_wins(tmp_path):
    for content in ("one", "two"):
        with writing(tmp_path / "out", existing="keep") as part:
            part.mkdir()
            (part / "who.txt").write_text(content)
    assert (tmp_path / "out" / "who.txt").read_text() == "one"


def test_the_second_of_two_writers_at_once_gives_way(tmp_path):
    with writing(tmp_path / "out", existing="keep") as slow:
        slow.mkdir()
        (slow / "who.txt").write_text("slow")
        with writing(tmp_path / "out", existing="keep") as fast:
            fast.mkdir()
            (fast / "who.txt").write_text("fast")
    assert (tmp_path / "out" / "who.txt").read_text() == "fast"


def test_nothing_unfinished_is_found_by_a_glob(tmp_path):
    with writing(tmp_path / "cost.json") as part:
        part.write_text("{}")
        assert part.suffix == ".json"
        assert list(tmp_path.glob("*.json")) == []
    assert names(tmp_path) == ["cost.json"]


def test_only_leftovers_of_processes_that_ended_are_removed(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    mine = hidden_sibling(tmp_path / "x")
    theirs = mine.with_name(mine.name.replace(f".{os.getpid()}.", f".{ended.pid}."))
    for folder in (mine, theirs):
        folder.mkdir()
    assert clear_leftovers(tmp_path) == 1
    assert names(tmp_path) == [mine.name]


def test_a_removed_folder_is_gone_and_a_missing_one_is_no_error(tmp_path):
    write_json(tmp_path / "cell" / "result.json", {"a": 1})
    for _ in range(2):
        remove_folder(tmp_path / "cell")
    assert names(tmp_path) == []
