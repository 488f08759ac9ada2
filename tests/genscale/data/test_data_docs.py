"""docs/data.md says what the code does: every column with its type, every feature with its constants."""

import re
from pathlib import Path

import pytest

from genscale.data import schema
from genscale.data.export import FILE_NAMES
from genscale.data.features import FEATURE_SETS, FEATURES

TEXT = (Path(__file__).parents[3] / "docs" / "data.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("|")
]


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_every_column_with_its_type():
    documented = {
        name: row[1] for row in ROWS for name in names(row[0]) if name in schema.COLUMNS and len(row) == 4
    }
    expected = {n: "list of " * (n in schema.PARTICLE_COLUMNS) + t for n, t in schema.DTYPES.items()}
    assert documented == expected


def test_required_columns_are_marked():
    marked = {name for row in ROWS if len(row) == 4 for name in re.findall(r"`(\w+)`\*", row[0])}
    assert marked == set(schema.REQUIRED_COLUMNS)


@pytest.mark.parametrize("name", FEATURES)
def test_every_feature_with_its_constants(name):
    (row,) = (row for row in ROWS if len(row) == 6 and names(row[0]) == [name])
    feature = FEATURES[name]
    clip = tuple(float(x) for x in row[4].split(",")) if row[4] else None
    assert (float(row[2]), float(row[3]), clip) == (feature.center, feature.scale, feature.clip)
    sets = {"k": "kinematic3", "u": "uslu9", "p": "part17", "s": "sig21"}
    assert {sets[letter] for letter in row[5].split()} == {
        n
        for n in sets.values()
        if name in FEATURE_SETS[n] and (n != "sig21" or name not in FEATURE_SETS["full21"])
    }


def test_file_names_of_the_classes():
    assert all(f"`{name}`" in TEXT for name in FILE_NAMES.values())
