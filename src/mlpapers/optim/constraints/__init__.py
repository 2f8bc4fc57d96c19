"""Feasible sets with a linear minimisation oracle: norm balls, simplices, boxes, matrices, combinations."""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.optim.constraints._base import ConstraintSet as ConstraintSet
    from mlpapers.optim.constraints.balls import GroupL1Ball as GroupL1Ball
    from mlpapers.optim.constraints.balls import KSparsePolytope as KSparsePolytope
    from mlpapers.optim.constraints.balls import L1Ball as L1Ball
    from mlpapers.optim.constraints.balls import L2Ball as L2Ball
    from mlpapers.optim.constraints.balls import LInfBall as LInfBall
    from mlpapers.optim.constraints.balls import LpBall as LpBall
    from mlpapers.optim.constraints.boxes import Box as Box
    from mlpapers.optim.constraints.boxes import BoxL1 as BoxL1
    from mlpapers.optim.constraints.boxes import BoxL2 as BoxL2
    from mlpapers.optim.constraints.combined import Hull as Hull
    from mlpapers.optim.constraints.combined import Product as Product
    from mlpapers.optim.constraints.combined import Scaled as Scaled
    from mlpapers.optim.constraints.combined import Shifted as Shifted
    from mlpapers.optim.constraints.matrices import Birkhoff as Birkhoff
    from mlpapers.optim.constraints.matrices import NuclearNormBall as NuclearNormBall
    from mlpapers.optim.constraints.matrices import Spectrahedron as Spectrahedron
    from mlpapers.optim.constraints.simplices import CappedSimplex as CappedSimplex
    from mlpapers.optim.constraints.simplices import Simplex as Simplex

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Birkhoff": "matrices",
        "Box": "boxes",
        "BoxL1": "boxes",
        "BoxL2": "boxes",
        "CappedSimplex": "simplices",
        "ConstraintSet": "_base",
        "GroupL1Ball": "balls",
        "Hull": "combined",
        "KSparsePolytope": "balls",
        "L1Ball": "balls",
        "L2Ball": "balls",
        "LInfBall": "balls",
        "LpBall": "balls",
        "NuclearNormBall": "matrices",
        "Product": "combined",
        "Scaled": "combined",
        "Shifted": "combined",
        "Simplex": "simplices",
        "Spectrahedron": "matrices",
    },
)
