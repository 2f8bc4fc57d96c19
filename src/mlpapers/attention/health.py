"""The health of an attention model: one call, one page."""

from __future__ import annotations

import html
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mlpapers.attention.plots import plot_dilution, plot_temperatures
from mlpapers.attention.statistics import AttentionStats, attention_statistics
from mlpapers.core._figure import draw_svg
from mlpapers.core._files import write_text
from mlpapers.core.result import Result

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AttentionHealthResult", "attention_health"]

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:960px;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;font-size:13px}td,th{padding:2px 8px;text-align:right;"
    "border-bottom:1px solid #ddd}svg{max-width:100%;height:auto}"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class AttentionHealthResult(Result):
    """What heads do with a text, and warnings.

    Attributes
    ----------
    stats : AttentionStats
    tokens : list of str
        Of the text.
    name : str
        Of the model's class.
    """

    stats: AttentionStats
    tokens: list[str]
    name: str

    def remarks(self) -> list[str]:
        """Return what stands out, in words.

        Returns
        -------
        remarks : list of str
        """
        frame = self.stats.to_frame()
        total = len(frame)
        sinks, flat = int((frame["sink_mass"] > 0.5).sum()), int((frame["evenness"] > 0.9).sum())
        spiky = int((frame["top1_mass"] > 0.9).sum())
        lines = [
            f"{sinks} of {total} heads give more than half of their mass to the first token (sinks)",
            f"{flat} of {total} heads are nearly uniform (entropy above 90 % of log n)",
            f"{spiky} of {total} heads give more than 90 % of a row to one key on average",
        ]
        stats = self.stats
        if self._is_plain():
            return [*lines, "all temperatures are 1: plain attention"]
        low, high = float(np.nanmin(stats.tau_q)), float(np.nanmax(stats.tau_q))
        return [*lines, f"query temperatures lie in [{low:.3g}, {high:.3g}]"]

    def _is_plain(self) -> bool:
        return bool((self.stats.tau_q == 1.0).all() and (self.stats.tau_v == 1.0).all())

    def _draw_temperatures(self, tau: NDArray[np.float64]) -> Callable[[Axes], Any]:
        return lambda ax: plot_temperatures(self.tokens, tau.mean(1), ax).set_ylabel("layer")

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer and head.

        Returns
        -------
        pandas.DataFrame
        """
        return self.stats.to_frame()

    def plot(self, ax: Axes | None = None, **options: Any) -> Axes:
        """Draw the evenness of every head; see :meth:`AttentionStats.plot`.

        Parameters
        ----------
        ax : matplotlib Axes, optional
        **options
            Passed on.

        Returns
        -------
        matplotlib Axes
        """
        return self.stats.plot(ax, **options)

    def to_html(self) -> str:
        """Return the page: remarks, heat-maps by layer and head, temperatures over the text, the table.

        Temperatures are left out where all are 1.

        Returns
        -------
        page : str
        """
        stats = self.stats
        pictures: list[tuple[str, Callable[[Axes], Any]]] = [
            ("Entropy over that of uniform attention", stats.plot),
            ("Mass on the first token", _heat_map(np.nanmean(stats.sink_mass, -1))),
            ("Spikiness: small is spiky", _heat_map(np.nanmean(stats.spikiness, -1))),
            ("Dilution: largest probability by number of keys", lambda ax: plot_dilution(stats, ax)),
        ]
        if not self._is_plain():
            pictures += [
                (f"{role} temperatures over the text, mean over heads", self._draw_temperatures(tau))
                for role, tau in (("Query", stats.tau_q), ("Value", stats.tau_v))
            ]
        parts = [f"<h2>{title}</h2>{_svg(draw, title)}" for title, draw in pictures]
        remarks = "".join(f"<li>{html.escape(line)}</li>" for line in self.remarks())
        title = html.escape(f"Attention of {self.name} over {len(self.tokens)} tokens")
        table = self.to_frame().to_html(index=False, float_format=lambda value: f"{value:.3g}", border=0)
        return (
            f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>"
            f"<style>{_STYLE}</style><h1>{title}</h1><ul>{remarks}</ul>{''.join(parts)}"
            f"<h2>Heads</h2>{table}</html>\n"
        )

    def write_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to one self-contained file and return its path.

        Parameters
        ----------
        path : path

        Returns
        -------
        path : Path
        """
        return write_text(path, self.to_html())


def attention_health(
    model: Any, tokenizer: Any, text: str, *, chunk_size: int = 256
) -> AttentionHealthResult:
    """Examine every head of a Hugging Face model over a text.

    Parameters
    ----------
    model : PreTrainedModel
        Of a supported family, converted or not.
    tokenizer : PreTrainedTokenizer
        Its tokenizer.
    text : str
    chunk_size : int, default=256
        Queries whose rows are held at once.

    Returns
    -------
    AttentionHealthResult
        ``write_html(path)`` makes the page.

    Raises
    ------
    ValueError
        If the text has no token or the model is of no supported family.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be a str; got {type(text).__name__}")
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    if ids.shape[1] == 0:
        raise ValueError("text must have at least one token; got none")
    stats = attention_statistics(model, ids.to(next(model.parameters()).device), chunk_size=chunk_size)
    tokens = [tokenizer.decode([token]) for token in ids[0].tolist()]
    return AttentionHealthResult(stats=stats, tokens=tokens, name=type(model).__name__)


def _heat_map(values: NDArray[np.float64]) -> Callable[[Axes], Any]:
    def draw(ax: Axes) -> None:
        picture = ax.imshow(values, aspect="auto", vmin=0.0, vmax=1.0)
        ax.figure.colorbar(picture, ax=ax)
        ax.set(xlabel="head", ylabel="layer")

    return draw


def _svg(draw: Callable[[Axes], Any], title: str) -> str:
    text = draw_svg(draw, title)
    # Inside a page the declaration and the document type of an SVG file are errors.
    return text[text.index("<svg") :]
