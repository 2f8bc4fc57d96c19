import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlpapers.fairness import make_groups

TABLE = pd.DataFrame({"sex": ["F", "M", "F", "M", "F"], "race": ["W", "W", "B", "B", "W"]})


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=1, max_size=30))
def test_every_sample_is_in_the_groups_that_its_values_name(rows):
    table = pd.DataFrame(rows, columns=["a", "b", "c"])
    for groups in ("intersectional", "marginal", "all"):
        encoding = make_groups(table, groups)
        members = encoding.membership[encoding.codes]
        for j, name in enumerate(encoding.names):
            wanted = np.ones(len(table), dtype=bool)
            for part in name.split(" & "):
                column, value = part.split("=")
                wanted &= (table[column] == int(value)).to_numpy()
            np.testing.assert_array_equal(members[:, j], wanted)


def test_all_combinations_are_kept_once():
    rng = np.random.default_rng(0)
    table = np.column_stack([rng.integers(0, k, 4000) for k in (2, 3, 4)])
    assert [len(make_groups(table, g).names) for g in ("intersectional", "marginal", "all")] == [24, 9, 59]
    twice = np.column_stack([table[:, 0], table[:, 0]])  # the second column repeats the first
    assert len(make_groups(twice, "all").names) == 2


def test_independent_is_another_word_for_marginal():
    assert make_groups(TABLE, "independent").names == make_groups(TABLE, "marginal").names
    assert make_groups(TABLE, "marginal").names == ["sex=F", "sex=M", "race=B", "race=W"]


def test_containers_agree():
    codes = make_groups(TABLE).codes
    reindexed = TABLE.set_index(np.arange(5)[::-1])
    for container in (TABLE.to_numpy(), TABLE.to_dict("list"), TABLE.to_numpy().tolist(), reindexed):
        np.testing.assert_array_equal(make_groups(container).codes, codes)
    np.testing.assert_array_equal(make_groups(TABLE["sex"]).codes, make_groups(TABLE["sex"].tolist()).codes)
    np.testing.assert_array_equal(make_groups([1, 2, 1]).codes, make_groups(["1", "2", "1"]).codes)


def test_transform_finds_cells_by_name_and_marks_unseen_ones():
    encoding = make_groups(TABLE)
    swapped = TABLE[["race", "sex"]]
    np.testing.assert_array_equal(encoding.transform(swapped), encoding.codes)
    unseen = pd.DataFrame({"sex": ["M", "X"], "race": ["W", "W"]})
    assert encoding.transform(unseen).tolist() == [encoding.codes[1], -1]
    with pytest.raises(ValueError, match="2 columns"):
        encoding.transform(["M"])


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_a_missing_value_is_refused_by_its_column(missing):
    with pytest.raises(ValueError, match="missing value in column 'race'"):
        make_groups({"sex": ["F", "M"], "race": pd.Series(["W", missing], dtype=object)})


def test_whole_numbers_are_found_in_any_notation():
    encoding = make_groups({"a": [0, 1, 10], "b": ["01", "1", "x"]})
    for a in ([0.0, 1.0, 10.0], np.array([0, 1, 10], dtype=np.int8), ["0", "1", "10"]):
        assert encoding.transform({"a": a, "b": ["01", "1", "x"]}).tolist() == encoding.codes.tolist()
    assert make_groups([False, True]).transform(np.array([1.0, 0.0])).tolist() == [1, 0]
    assert make_groups([1.0, 0.0]).transform(pd.Series([True, False], dtype="boolean")).tolist() == [1, 0]
    assert make_groups(np.array([0.1, 0.5], dtype=np.float32)).transform([0.1, 0.5]).tolist() == [0, 1]
    # Postal codes and the like are words; nor are values merged that were told apart.
    assert make_groups(["1", "2"]).transform(["01", "2"]).tolist() == [-1, 1]
    mixed = make_groups(np.array(["1", "1.0", "True"], dtype=object))
    assert mixed.transform(["1", "1.0", "True", "1.00"]).tolist() == [*mixed.codes.tolist(), -1]


def test_bad_arguments():
    with pytest.raises(ValueError, match="'intersectional', 'marginal', 'all'"):
        make_groups(TABLE, "pairs")
    with pytest.raises(ValueError, match="at least one column"):
        make_groups(pd.DataFrame(index=range(3)))
    with pytest.raises(ValueError, match="1-D or 2-D"):
        make_groups(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="one length"):
        make_groups({"a": [1, 2], "b": [1]})
