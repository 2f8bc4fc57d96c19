"""The table of kernel languages and devices."""

import pytest

from mlpapers.kernels.dsl import (
    get_backend,
    get_dsl,
    list_backends,
    list_dsls,
    register_backend,
    register_dsl,
    resolve,
)


def test_known_names():
    assert get_dsl("cpp").name == "cpp"
    assert get_backend("cpu").device() == "cpu"
    assert resolve("cpp", "auto") == ("cpp", "cpu")
    assert resolve("auto", "cpu")[1] == "cpu"
    assert {"name", "backend", "available", "reason"} == set(list_dsls().columns)
    assert "cpu" in set(list_backends()["name"])


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="'cpp'"):
        get_dsl("fortran")
    with pytest.raises(ValueError, match="'cpu'"):
        get_backend("abacus")
    for wrong in (int, "cpp"):
        with pytest.raises(TypeError, match="cls must be a subclass of DSL"):
            register_dsl("x", wrong)
        with pytest.raises(TypeError, match="cls must be a subclass of Backend"):
            register_backend("x", wrong)


def test_the_processor_is_measured_once(tmp_path, monkeypatch):
    monkeypatch.setenv("MLPAPERS_KERNEL_CACHE", str(tmp_path))
    first = get_backend("cpu").hardware()
    assert first.bandwidth >= first.bandwidth_dram > 1e8
    assert first.peak_flops > 1e8
    assert len(list(tmp_path.glob("hardware-*.json"))) == 1
    assert get_backend("cpu").hardware() == first
