"""Conversations are kept whole, replayed without asking, and hold no secrets."""

import json
import pickle

import pytest

from mlpapers.kernels import Cassette, CassetteMiss, Completion, LLMError, ScriptedClient

ASKED = [{"role": "user", "content": "my private question"}]
OTHER = [{"role": "user", "content": "another"}]


def test_record_and_replay(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    path = tmp_path / "deep" / "c.jsonl"
    first = Completion(("one",), {"prompt_tokens": 2}, 0.5, "m", ("stop",), ("HTTP 429",))
    live = ScriptedClient([first, "two"], model="m")
    recorder = Cassette(path, "record", client=live)
    assert recorder.complete(ASKED, seed=1) == first
    assert recorder.complete(OTHER).text == "two"
    written = path.read_text()
    for secret in ("sk-secret", "private", "question", "another", "OPENAI"):
        assert secret not in written
    assert [sorted(json.loads(line)) for line in written.splitlines()] == [["completion", "key"]] * 2
    player = Cassette(path)
    # In any order, as often as one likes.
    assert player.complete(OTHER).text == "two"
    assert player.complete(ASKED, seed=1) == first
    assert player.complete(ASKED, seed=1) == first
    assert len(live.requests) == 2
    for changed in ({"seed": 2}, {"seed": 1, "temperature": 0.0}, {"seed": 1, "n": 2}):
        with pytest.raises(CassetteMiss, match=r"c\.jsonl has no answer"):
            player.complete(ASKED, **changed)


def test_auto_asks_for_what_is_missing(tmp_path):
    path = tmp_path / "c.jsonl"
    live = ScriptedClient(["one", "two"])
    auto = Cassette(path, "auto", client=live)
    assert [auto.complete(m).text for m in (ASKED, ASKED, OTHER)] == ["one", "one", "two"]
    assert len(live.requests) == 2
    assert Cassette(path, "auto", client=ScriptedClient([])).complete(OTHER).text == "two"
    with pytest.raises(CassetteMiss):
        Cassette(tmp_path / "new.jsonl", "auto").complete(ASKED)


def test_recording_again_replaces_the_answer(tmp_path):
    path = tmp_path / "c.jsonl"
    for text in ("old", "new"):
        Cassette(path, "record", client=ScriptedClient([text])).complete(ASKED)
    assert Cassette(path, client=ScriptedClient([])).complete(ASKED).text == "new"
    assert len(path.read_text().splitlines()) == 1


def test_by_order(tmp_path):
    path = tmp_path / "c.jsonl"
    recorder = Cassette(path, "record", client=ScriptedClient(["one", "two"]), match="order")
    recorder.complete(ASKED)
    recorder.complete(ASKED)
    player = Cassette(path, match="order")
    assert [player.complete(OTHER).text, player.complete(OTHER).text] == ["one", "two"]
    with pytest.raises(CassetteMiss):
        player.complete(OTHER)


def test_errors_are_not_recorded(tmp_path):
    path = tmp_path / "c.jsonl"
    recorder = Cassette(path, "record", client=ScriptedClient([LLMError("down"), "up"]))
    with pytest.raises(LLMError, match="down"):
        recorder.complete(ASKED)
    assert not path.exists()
    recorder.complete(ASKED)
    assert len(recorder) == 1


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "c.jsonl"
    recorder = Cassette(path, "record", client=ScriptedClient(["one", "two"]))
    recorder.complete(ASKED)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        recorder.complete(OTHER)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir() if item.suffix == ".part"] == []


def test_two_recorders_lose_nothing(tmp_path):
    path = tmp_path / "c.jsonl"
    one, two = (Cassette(path, "record", client=ScriptedClient([text])) for text in ("a", "b"))
    one.complete(ASKED)
    two.complete(OTHER)
    assert len(Cassette(path)) == 2


def test_bad_files_and_modes(tmp_path):
    path = tmp_path / "c.jsonl"
    with pytest.raises(FileNotFoundError, match="path"):
        Cassette(path)
    with pytest.raises(ValueError, match="mode"):
        Cassette(path, "erase")
    with pytest.raises(ValueError, match="client"):
        Cassette(path, "record")
    with pytest.raises(ValueError, match="match"):
        Cassette(path, "auto", match="luck")
    good = '{"key": "k", "completion": {"texts": ["x"]}}\n'
    for bad in ("no json", "[]", '{"key": 1}', '{"key": "k", "completion": 3}'):
        path.write_text(good + bad + "\n")
        with pytest.raises(ValueError, match="line 2"):
            Cassette(path)
    path.write_text(good)
    player = pickle.loads(pickle.dumps(Cassette(path, match="order")))
    assert player.complete(ASKED).text == "x"
