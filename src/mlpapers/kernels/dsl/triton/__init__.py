"""Triton: blocks of a tensor as Python expressions, compiled for the GPU or interpreted on the processor."""

from __future__ import annotations

import functools
import importlib.util
import math
from pathlib import Path
from typing import Any, ClassVar

from mlpapers.kernels.dsl.base import DSL, BuildError, chunk_choices
from mlpapers.kernels.dsl.launches import device_chunk, with_chunks
from mlpapers.kernels.dsl.triton.convolution import plan_of
from mlpapers.kernels.dsl.triton.loader import LOADER
from mlpapers.kernels.sketch import Call, Sketch

_TILES = (256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
_COLUMNS = (32, 64, 128, 256, 512)
_WARPS = (0, 2, 4, 8, 16, 32)
# Longest block of a loop inside another one.
_INNER = 4096
# Programs of a grid whose rows are cut into chunks, the number of chunks, and the shortest one.
_PROGRAMS = 8192
_FEWEST_CHUNKS = 16
_MOST_CHUNKS = 512
_SHORTEST = 1024
# Columns of a tile, and of one that keeps places.
_COLUMN, _WIDE_COLUMN = 128, 512
# Sides of a tile that is transposed, and the fewest rows that are reduced side by side.
_SIDE, _NARROWEST = 64, 16
# Largest row that a program of 32 warps holds in registers: 64 elements per thread.
PERSISTENT = 65536


class TritonDSL(DSL):
    """Triton: the same source runs on an NVIDIA GPU and, through Triton's interpreter, on the processor.

    Examples
    --------
    >>> TritonDSL().backends
    ('cuda', 'cpu', 'ascend')
    """

    name: ClassVar[str] = "triton"
    backends: ClassVar[tuple[str, ...]] = ("cuda", "cpu", "ascend")
    docs: ClassVar[Path] = Path(__file__).parent
    loader: ClassVar[str] = LOADER
    modules: ClassVar[tuple[str, ...]] = ("triton",)

    def render(self, sketch: Sketch, params: dict[str, Any], backend: str) -> str:
        """Return Python source with the Triton functions and ``class ModelNew``.

        Parameters
        ----------
        sketch : Sketch
        params : dict
            Tile sizes by the names of the constexprs, and ``WARPS`` (0: by the size of the blocks).
        backend : str

        Returns
        -------
        source : str
        """
        from mlpapers.kernels.dsl.triton.host import TritonHost

        chosen = {**self.defaults(sketch, backend), **params}
        values = {name: value for name, value in chosen.items() if isinstance(value, int)}
        return TritonHost(with_chunks(sketch, values), chosen).render()

    def space(self, sketch: Sketch, backend: str) -> dict[str, tuple[Any, ...]]:
        """Return the admissible tile sizes and numbers of warps.

        Parameters
        ----------
        sketch : Sketch
        backend : str

        Returns
        -------
        space : dict of str to tuple
        """
        self._check_backend(backend)
        defaults = self.defaults(sketch, backend)
        found: dict[str, tuple[Any, ...]] = {}
        for name, value in defaults.items():
            if name.startswith("TILE"):
                found[name] = tuple(sorted({*_TILES, value}))
            elif name.startswith("COLS"):
                found[name] = tuple(sorted({*_COLUMNS, value}))
            elif name.startswith("CHUNK"):
                found[name] = chunk_choices(value)
        if "PRECISION" in defaults:
            # The library's product stays a candidate.
            found["PRECISION"] = (0, defaults["PRECISION"])
        if "CONVOLUTION" in defaults:
            # The library's; ours where it is the better guess; ours.
            found["CONVOLUTION"] = (0, 1, 2)
        if backend == "cuda":
            found["WARPS"] = _WARPS
        return found

    def defaults(self, sketch: Sketch, backend: str) -> dict[str, Any]:
        """Return block sizes for the device: whole rows in registers where they fit, else 4096 elements.

        Parameters
        ----------
        sketch : Sketch
        backend : str

        Returns
        -------
        params : dict
        """
        self._check_backend(backend)
        chunks = {} if backend == "cpu" else _chunks(sketch)
        rows = _row_tiles(sketch, chunks)
        turned = {**_placed(sketch), **_turned(sketch)}
        found: dict[str, Any] = {}
        for name, value in sketch.constexprs:
            if name in turned:
                found[name] = turned[name]
            elif name.startswith("TILE"):
                known = rows.get(name)
                if known is not None:
                    found[name] = known if 0 < known <= PERSISTENT else 4096
                else:
                    found[name] = 16384 if backend == "cpu" else 1024
            elif name.startswith("COLS"):
                found[name] = _COLUMN
            elif name.startswith("CHUNK"):
                found[name] = value if backend == "cpu" else chunks.get(name, device_chunk(value))
            elif name == "PRECISION":
                found[name] = value
        if backend == "cuda":
            found["WARPS"] = 0
            if any(isinstance(s, Call) and plan_of(sketch, s) is not None for s in sketch.body):
                found["CONVOLUTION"] = 1
        return found

    def environment(self, backend: str) -> dict[str, str]:
        """Return the variable that makes Triton interpret, read when triton is imported, and that import.

        Parameters
        ----------
        backend : str

        Returns
        -------
        environment : dict of str to str
        """
        self._check_backend(backend)
        # Imported once by the process that workers are forked from.
        modules = {"KERNEL_WORKER_MODULES": "triton"}
        return {"TRITON_INTERPRET": "1", **modules} if backend == "cpu" else modules

    def build(self, code: str, workdir: Path, backend: str) -> None:  # noqa: ARG002
        """Check that a source is Python; Triton compiles it when it is launched.

        Parameters
        ----------
        code : str
        workdir : Path
        backend : str

        Raises
        ------
        BuildError
            With the place of the mistake.
        """
        self._check_backend(backend)
        try:
            compile(code, "<triton kernel>", "exec")
        except SyntaxError as error:
            raise BuildError(f"the source is no Python: {error}") from error

    def available(self, backend: str) -> tuple[bool, str]:
        """Return whether Triton is installed, and a GPU where one is asked for.

        Parameters
        ----------
        backend : str

        Returns
        -------
        available : bool
        reason : str
        """
        if backend not in self.backends:
            return False, f"triton serves {', '.join(self.backends)}, not {backend}"
        if not _installed():
            return False, "triton is not installed (pip install 'mlpapers[kernels]', on Linux)"
        from mlpapers.kernels.dsl.base import get_backend

        return get_backend(backend).available()


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def _chunks(sketch: Sketch) -> dict[str, int]:
    """Return sizes of chunks that make about 8192 programs together with the other axes of their grid.

    A chunk that is read in tiles is not shorter than a small tile: what lies beyond it would be idle lanes.
    Where an axis is free nothing is returned.
    """
    from mlpapers.kernels.dsl.launches import Launch, Sizes, launches
    from mlpapers.kernels.dsl.statements import power_of_two
    from mlpapers.kernels.sketch import For, walk

    sizes = Sizes(dict(sketch.constexprs), "")
    found: dict[str, int] = {}
    for step in launches(sketch):
        axes = step.axes if isinstance(step, Launch) else ()
        cut = next((axis for axis in axes if axis.step.startswith("CHUNK")), None)
        if cut is None or not isinstance(step, Launch):
            continue
        if axes[-1].step.startswith("COLS"):
            # A tile of columns knows best.
            continue
        extents = [sizes.known(axis.hi) for axis in axes if axis is not cut]
        length = sizes.known(cut.hi)
        if length is None or any(extent is None for extent in extents):
            continue
        others = math.prod(extent for extent in extents if extent is not None)
        count = min(_MOST_CHUNKS, max(_FEWEST_CHUNKS, _PROGRAMS // max(others, 1)))
        inner = any(
            isinstance(loop, For) and loop.lo == cut.var and loop.step.startswith("TILE")
            for loop in walk(step.body)
        )
        found[cut.step] = max(power_of_two(-(-length // count)), _SHORTEST if inner else 1)
    return found


def _placed(sketch: Sketch) -> dict[str, int]:
    """Return the widths of tiles whose columns' extremes are kept with their places: wide and low ones."""
    from mlpapers.kernels.dsl.launches import Launch, launches
    from mlpapers.kernels.sketch import Compute, walk

    return {
        step.axes[-1].step: _WIDE_COLUMN
        for step in launches(sketch)
        if isinstance(step, Launch) and step.columns and step.axes[-1].step.startswith("COLS")
        if any(isinstance(s, Compute) and s.op in ("reduce_argmax", "reduce_argmin") for s in walk(step.body))
    }


def _turned(sketch: Sketch) -> dict[str, int]:
    """Return the widths of tiles in two lanes of which one access runs along the columns, another across.

    About as wide as high; and no higher than a tile of columns is that holds whole rows in registers.
    """
    from mlpapers.kernels.dsl.launches import Launch, Sizes, launches
    from mlpapers.kernels.dsl.statements import power_of_two
    from mlpapers.kernels.dsl.triton.render import TILE_ELEMENTS, TURNED_ELEMENTS
    from mlpapers.kernels.dsl.triton.turned import turned
    from mlpapers.kernels.sketch import For, Load

    sizes = Sizes(dict(sketch.constexprs), "")
    views = {view.name: view for view in sketch.views}
    found: dict[str, int] = {}
    for step in launches(sketch):
        if not isinstance(step, Launch) or not step.columns:
            continue
        across = turned(sketch, step).across
        if across:
            extent = sizes.known(next(axis.hi for axis in step.axes if axis.var == across))
            side = min(power_of_two(extent or _SIDE), _SIDE)
            found[step.axes[-1].step] = max(TURNED_ELEMENTS // side, _SIDE)
            continue
        for loop in step.body:
            loads = [s for s in loop.body if isinstance(s, Load)] if isinstance(loop, For) else []
            read = [(s.index, views[s.source]) for s in loads if s.source in views]
            strides = [dict(zip(index, view.strides)) for index, view in read if view.base != "iota"]
            extent = sizes.known(loop.hi) if isinstance(loop, For) else None
            if extent is not None and any(steps.get(loop.var) == "1" for steps in strides):
                width = min(_COLUMN, max(TILE_ELEMENTS // power_of_two(extent), _NARROWEST))
                found[step.axes[-1].step] = min(width, found.get(step.axes[-1].step, width))
    return found


def _row_tiles(sketch: Sketch, chunks: dict[str, int]) -> dict[str, int]:
    """Return the smallest power of two that holds the rows of each tile, 0 where their length is free.

    The rows of a chunk are no longer than it.
    """
    from mlpapers.kernels.dsl.launches import Launch, Sizes, launches
    from mlpapers.kernels.dsl.statements import power_of_two
    from mlpapers.kernels.sketch import For, walk

    sizes = Sizes(dict(sketch.constexprs), "")
    found: dict[str, int] = {}
    for step in launches(sketch):
        body = step.body if isinstance(step, Launch) else ()
        direct = [id(s) for s in body]
        axes = step.axes if isinstance(step, Launch) else ()
        cut = {axis.var: chunks[axis.step] for axis in axes if axis.step in chunks}
        for loop in walk(body):
            if isinstance(loop, For) and loop.step.startswith("TILE"):
                extent = sizes.known(loop.hi) if "min(" not in loop.hi and loop.lo == "0" else None
                if loop.lo in cut:
                    extent = min(cut[loop.lo], _INNER)
                width = power_of_two(extent) if extent is not None else 0
                if id(loop) not in direct and width > _INNER:
                    # Inside another loop the accumulators stay in registers beside what is loaded.
                    width = 0
                known = found.get(loop.step, width)
                found[loop.step] = max(width, known) if width and known else 0
    return found
