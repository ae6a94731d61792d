"""YAML and JSON from outside: bounded, with the line in every message, and words that stay words."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.errors import DataError
from rs05bench.protocol.card import TaskCard
from rs05bench.protocol.documents import MOST_BYTES, MOST_VALUES, parse_json, parse_yaml, read_json_mapping, read_yaml_mapping

PACKAGE = Path(__file__).parents[2] / "rs05bench"


def laughs(levels: int) -> str:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x,x]"]
    lines += [f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]" for i in range(levels)]
    return "\n".join(lines)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("title: 2020-01-01", "2020-01-01"),
        ("at: 2020-01-01 10:00:00", "2020-01-01 10:00:00"),
        ("name: 1:30", "1:30"),
        ("code: 007", "007"),
        ("country: NO", "NO"),
        ("on: yes", "yes"),
        ("n: 10_000", 10_000),
        ("n: -3", -3),
        ("n: 0x1F", 31),
        ("n: 2.5e-3", 0.0025),
        ("n: true", True),
        ("n: ~", None),
        ("n: None", "None"),
        ("n: NA", "NA"),
        ("n: '12'", "12"),
    ],
)
def test_words_stay_words_and_numbers_numbers(text, value):
    (found,) = parse_yaml(text, source="x").values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("ok: 1\n" + laughs(8), 6),  # 11, 111, 1111, 11111, 111111 values: the fifth line of eight
        ("a: &a [*a]", 1),
        ("x: 1\np: &p\n  q: *p", 3),
        ("x: 1\ny: " + "[" * 3000 + "]" * 3000, 2),
        ("x: 1\ny: " + "9" * 5000, 2),
        ("x: 1\n!!python/object/apply:os.system ['true']: 2", 2),
        ("x: !!binary aGk=", 1),
        ("x: !!set {a, b}", 1),
        ("x: 1\n[a]: 2", 2),
        ("x: 1\nx: 2", 2),
        ("x: 1\n  y: 2", 2),
        ("x: *nothing", 1),
    ],
)
def test_a_fault_is_named_with_its_line(text, line):
    with pytest.raises(DataError, match=rf"line {line}, column \d+: "):
        parse_yaml(text, source="card.yaml")


def test_aliases_are_counted_as_often_as_they_repeat():
    many = "a: &a [" + ",".join(["x"] * 1000) + "]\nb: [" + ",".join(["*a"] * (MOST_VALUES // 1000)) + "]"
    with pytest.raises(DataError, match="counting what aliases repeat"):
        parse_yaml(many, source="x")
    few = "a: &a [" + ",".join(["x"] * 1000) + "]\nb: [" + ",".join(["*a"] * 10) + "]"
    assert parse_yaml(few, source="x") == yaml.safe_load(few)


def test_merge_keys_mean_what_they_mean_elsewhere():
    text = "base: &b {u: 1, v: 2}\nx:\n  <<: *b\n  v: 3"
    assert parse_yaml(text, source="x") == yaml.safe_load(text)


def test_other_encodings_are_named(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_text("kind: classification", encoding="utf-16")
    with pytest.raises(DataError, match="not text in UTF-8"):
        read_yaml_mapping(path)
    path.write_text("kind: classification", encoding="utf-8-sig")
    assert read_yaml_mapping(path) == {"kind": "classification"}


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "card.yaml"
    path.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(DataError, match="larger than"):
        read_yaml_mapping(path)


@pytest.mark.parametrize("text", ["[1]", "5", "word"])
def test_fields_are_asked_for_where_something_else_stands(tmp_path, text):
    path = tmp_path / "card.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=r"expected fields with their values, found a (list|number|text)"):
        read_yaml_mapping(path)


@given(st.text(max_size=300))
def test_any_text_is_a_document_or_a_data_error(text):
    for parse in (parse_yaml, parse_json):
        with contextlib.suppress(DataError):
            parse(text, source="x")


@given(st.binary(max_size=300))
def test_any_bytes_are_a_document_or_a_data_error(content):
    for parse in (parse_yaml, parse_json):
        with contextlib.suppress(DataError):
            parse(content, source="x")


FIELDS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.text("abc: -#[]{}'\"\n0123456789", max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1, max_size=4), inner, max_size=4),
    max_leaves=20,
)


@given(FIELDS)
def test_what_is_written_is_read_back(data):
    assert parse_yaml(yaml.safe_dump(data), source="x") == data


@given(st.dictionaries(st.sampled_from(sorted(TaskCard.model_fields)), FIELDS))
def test_a_card_of_any_content_is_a_card_or_a_data_error(data):
    with contextlib.suppress(DataError):
        TaskCard.parse(data, source="card.yaml")


def test_json_nested_too_deeply_is_refused(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("[" * 200_000)
    with pytest.raises(DataError, match="nested too deeply"):
        read_json_mapping(path)


def test_yaml_is_read_in_one_place():
    found = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        for text in [path.read_text()]
        if "yaml.safe_load" in text or "yaml.load" in text
    }
    assert found == set()


@pytest.mark.parametrize("text", [laughs(8), "x: " + "[" * 3000, "kind: [a]", "preprocessing: &p\n  q: *p"])
def test_a_hostile_card_ends_the_command_with_one_sentence(tmp_path, text):
    path = tmp_path / "card.yaml"
    path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "rs05bench.cli", "sweep", path, "--out", tmp_path / "out"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    assert str(path) in done.stderr
