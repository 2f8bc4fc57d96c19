"""Values that a row keeps for a later pass live in the row of the result that the last pass writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlpapers.kernels.dsl.cpp.maths import STORAGE, TYPES
from mlpapers.kernels.sketch import Alloc, For, Load, Store, walk

if TYPE_CHECKING:
    from mlpapers.kernels.dsl.cpp.render import Function


def home_of(function: Function, space: Alloc, body: Sequence[Any]) -> Store | None:
    """Return the store whose row can hold a workspace; None where there is none.

    The last loop over the workspace must read each element and write the result of it to the same place of a
    row that nothing else of the body reads or writes. The result's memory is then reached by the first pass,
    beside its arithmetic, and the workspace takes none of the cache.

    Parameters
    ----------
    function : Function
    space : Alloc
        A workspace of one row.
    body : sequence
        What a thread does for one row.

    Returns
    -------
    store : Store or None
    """
    loops = [s for s in body if isinstance(s, For) and any(_touches(t, space.name) for t in walk(s.body))]
    if len(space.dims) != 1 or len(loops) < 2 or any(isinstance(s, For) for s in loops[-1].body):
        return None
    last = loops[-1]
    stores = [s for s in last.body if isinstance(s, Store)]
    reads = [s for s in last.body if isinstance(s, Load) and s.source == space.name]
    if len(stores) != 1 or len(reads) != 1 or last.hi != space.dims[0]:
        return None
    store, tile = stores[0], reads[0].index[0]
    view = function.views.get(store.target)
    if (
        store.target in function.allocs
        or store.index[-1] != tile
        or any(c in i for i in store.index[:-1] for c in ":@")
    ):
        return None
    base = view.base if view is not None else store.target
    tensor = function.sketch.tensor(base)
    names = {base, *(name for name, other in function.views.items() if other.base == base)}
    others = any(s is not store and _touches(s, name) for s in walk(body) for name in names)
    plain = view is None or view.strides[-1] == "1"
    owned = tensor.role in ("output", "temp") and STORAGE[tensor.dtype] == TYPES[space.dtype]
    return store if plain and owned and not others else None


def _touches(s: Any, name: str) -> bool:
    return (isinstance(s, Load) and s.source == name) or (isinstance(s, Store) and s.target == name)
