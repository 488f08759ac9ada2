"""The table of points: what is read, what is kept, and which row and column a complaint names."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval.scaling import InputError, Points, fit, read_points


def write(tmp_path, text, name="points.csv"):
    path = tmp_path / name
    path.write_text(text)
    return path


def test_columns_are_read_and_extra_ones_kept(tmp_path):
    path = write(tmp_path, "run,N,D,L,seed,task\nr1,1e6,1e9,3.5,0,generator\n\nr2,2e6,1e9,3.25,1,tagger\n")
    points = read_points(path)
    np.testing.assert_array_equal(points.N, [1e6, 2e6])
    np.testing.assert_array_equal(points.L, [3.5, 3.25])
    assert points.extra == {"run": ("r1", "r2"), "task": ("generator", "tagger")}
    assert list(points.seed) == ["0", "1"]
    assert list(points.rows) == [2, 4]
    np.testing.assert_array_equal(points.compute, [6e15, 12e15])


def test_rows_can_be_chosen_and_columns_renamed(tmp_path):
    path = write(tmp_path, "params,D,val,task\n1e6,1e9,3.5,generator\n2e6,1e9,0.5,tagger\n")
    points = read_points(path, columns={"N": "params", "L": "val"}, where={"task": "tagger"})
    assert points.L.tolist() == [0.5]
    with pytest.raises(InputError, match=r"no row has task = both \(found generator, tagger\)"):
        read_points(path, columns={"N": "params", "L": "val"}, where={"task": "both"})


def test_json_lines_are_read(tmp_path):
    path = write(
        tmp_path, '{"N": 1e6, "D": 1e9, "L": 3.5}\n{"N": 2e6, "D": 1e9, "L": 3.1234567890123}\n', "p.jsonl"
    )
    assert read_points(path).L.tolist() == [3.5, 3.1234567890123]
    bad = write(tmp_path, '{"N": 1e6, "D": 1e9, "L": 3.5}\n{"N": }\n', "bad.jsonl")
    with pytest.raises(InputError, match=r"bad\.jsonl: line 2: not a JSON object"):
        read_points(bad)


def test_counted_compute_is_preferred_and_its_factor_known(tmp_path):
    path = write(tmp_path, "N,D,L,C\n1e6,1e9,3.5,8e15\n2e6,1e9,3.2,16e15\n")
    points = read_points(path)
    np.testing.assert_array_equal(points.compute, [8e15, 16e15])
    assert points.flops_factor == pytest.approx((8.0, 0.0))


def test_empty_optional_columns_count_as_absent(tmp_path):
    assert read_points(write(tmp_path, "N,D,L,C,U\n1e6,1e9,3.5,,\n")).C is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("N,D\n1,1\n", r"points\.csv: column L is missing \(found N, D\)"),
        (
            "N,D,L\n1e6,1e9,3.5\n1e6,1e9,nan\n",
            r"points\.csv: line 3: column L must be finite and positive, found nan",
        ),
        ("N,D,L\n1e6,0,3.5\n", "line 2: column D must be finite and positive, found 0"),
        ("N,D,L\n-5,1e9,3.5\n", "line 2: column N must be finite and positive, found -5"),
        ("N,D,L\n1e6,1e9,low\n", "line 2: column L must be a number, found 'low'"),
        ("N,D,L\n1e6,1e9,\n", "line 2: column L must be a number, found nothing"),
        ("N,D,L\n1e6,1e9\n", "line 2: 2 cells, the header has 3"),
        ("N,D,L,L\n1,1,1,1\n", "a column name appears twice"),
        ("N,D,L\n", "there are no points"),
        ("N,D,L,C\n1e6,1e9,3.5,-1\n", "column C must be finite and positive, found -1"),
        ("N,D,L,weight\n1e6,1e9,3.5,-1\n", "column weight must be finite and not negative"),
        ("N,D,L,weight\n1e6,1e9,3.5,0\n", "column weight is zero everywhere"),
    ],
)
def test_bad_tables_are_answered_with_row_and_column(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_points(write(tmp_path, text))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("utf-16.csv", "N,D,L\n1,2,3\n".encode("utf-16"), "not text in UTF-8"),
        ("latin-1.csv", "N,D,L,naïve\n1,2,3,4\n".encode("latin-1"), r"not text in UTF-8 \(byte 8\)"),
        ("binary.csv", bytes(range(128)) + b"\0" * 100, "binary.csv: "),
        ("long.csv", b"N,D,L\n1,2," + b"3" * 140_000, "not a CSV table of numbers and names .*limit"),
        ("latin-1.jsonl", '{"N": 1, "naïve": 1}'.encode("latin-1"), "not text in UTF-8"),
        (
            "lists.jsonl",
            b'{"N": 1, "D": 1, "L": 1}\n[1, 2, 3]\n',
            r"line 2: not a JSON object, but \[1, 2, 3\]",
        ),
        ("number.jsonl", b"7\n", "line 1: not a JSON object, but 7"),
        ("digits.jsonl", b'{"N": ' + b"9" * 5000 + b"}", "line 1: not a JSON object"),
    ],
)
def test_what_is_not_a_table_is_refused_by_its_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        read_points(tmp_path / name)
    assert name in str(refused.value)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".jsonl"]))
def test_any_bytes_are_read_or_refused(tmp_path, content, suffix):
    (tmp_path / f"bytes{suffix}").write_bytes(content)
    with pytest.raises(InputError, match="bytes"):
        read_points(tmp_path / f"bytes{suffix}")


def test_a_missing_file_says_what_was_wanted(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: no such file; expected a table with columns N, D, L"):
        read_points(tmp_path / "none.csv")


def test_arrays_are_checked_alike():
    with pytest.raises(InputError, match=r"column D has shape \(3,\), L has \(2,\)"):
        Points.from_arrays(N=[1, 2], D=[1, 2, 3], L=[1, 2])
    with pytest.raises(InputError, match="index 1: column L must be finite and positive, found inf"):
        Points.from_arrays(N=[1, 2], L=[1, np.inf])
    with pytest.raises(InputError, match="column D is missing"):
        fit(Points.from_arrays(N=np.arange(1, 9), L=np.arange(1, 9)), bootstrap=0)


def test_duplicates_are_reported_and_kept():
    points = Points.from_arrays(N=[1, 1, 2, 2, 3, 3, 4], D=[1, 1, 2, 3, 3, 4, 9], L=[5, 5, 4, 4, 3, 3, 2])
    assert points.duplicates == [(0, 1)]
    result = fit(points, bootstrap=0)
    assert result.n_points == 7
    assert any("identical points (rows 0, 1)" in note for note in result.warnings)


def test_seeds_make_equal_points_different():
    points = Points.from_arrays(N=[1, 1], D=[1, 1], L=[5, 5], seed=[0, 1])
    assert points.duplicates == []


def test_a_scattered_flops_factor_is_reported():
    points = Points.from_arrays(N=[1e6, 2e6, 4e6], D=[1e9] * 3, L=[3, 2.5, 2.2], C=[6e15, 20e15, 12e15])
    assert any("C/(N D) varies" in note for note in points.warnings())


def test_selection_keeps_rows_and_extras(tmp_path):
    points = read_points(write(tmp_path, "N,D,L,run\n1,1,3,a\n2,1,2,b\n3,1,1,c\n"))
    part = points.select([False, True, True])
    assert list(part.rows) == [3, 4]
    assert part.extra["run"] == ["b", "c"]


def test_the_losses_of_one_run_are_a_group(tmp_path):
    points = read_points(write(tmp_path, "N,D,L,run\n1,1,3,a\n1,2,2,a\n3,1,1,c\n"))
    assert list(points.group) == ["a", "a", "c"]
    assert list(points.extra["run"]) == ["a", "a", "c"]
    named = read_points(write(tmp_path, "N,D,L,run,group\n1,1,3,a,x\n1,2,2,a,y\n3,1,1,c,z\n"))
    assert list(named.group) == ["x", "y", "z"]
    assert read_points(write(tmp_path, "N,D,L,run\n1,1,3,\n1,2,2,\n")).group is None
