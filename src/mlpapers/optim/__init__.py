"""Frank-Wolfe from function values: finite sums over convex sets, without gradients and without projections.

``minimize_fw_zo`` is the paper's method, with double variance reduction, and its rivals, all under the same
count of queries. Constraint sets answer linear minimisation; ``FiniteSum`` and its relatives answer values of
pairs (point, function); ``universal_attack`` and three estimators are what they are used for.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.datasets.cifar import load_cifar10 as load_cifar10
    from mlpapers.datasets.libsvm import load_libsvm as load_libsvm
    from mlpapers.optim._loop import OptimizationState as OptimizationState
    from mlpapers.optim.asktell import FrankWolfeZO as FrankWolfeZO
    from mlpapers.optim.attack import AttackResult as AttackResult
    from mlpapers.optim.attack import universal_attack as universal_attack
    from mlpapers.optim.certificate import GapCertificate as GapCertificate
    from mlpapers.optim.certificate import gap_certificate as gap_certificate
    from mlpapers.optim.compare import SolverComparison as SolverComparison
    from mlpapers.optim.compare import compare_solvers as compare_solvers
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
    from mlpapers.optim.datasets import make_outlier_classification as make_outlier_classification
    from mlpapers.optim.datasets import make_sparse_logistic as make_sparse_logistic
    from mlpapers.optim.estimators import RobustClassifierFW as RobustClassifierFW
    from mlpapers.optim.estimators import RobustRegressorFW as RobustRegressorFW
    from mlpapers.optim.estimators import SparseLogisticRegressionFW as SparseLogisticRegressionFW
    from mlpapers.optim.finite_sum import FiniteSum as FiniteSum
    from mlpapers.optim.linear import LinearFiniteSum as LinearFiniteSum
    from mlpapers.optim.minimize import minimize_fw_zo as minimize_fw_zo
    from mlpapers.optim.result import FWResult as FWResult
    from mlpapers.optim.separable import QuadraticFiniteSum as QuadraticFiniteSum

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "AttackResult": "attack",
        "Birkhoff": "constraints.matrices",
        "Box": "constraints.boxes",
        "BoxL1": "constraints.boxes",
        "BoxL2": "constraints.boxes",
        "CappedSimplex": "constraints.simplices",
        "ConstraintSet": "constraints._base",
        "FWResult": "result",
        "FiniteSum": "finite_sum",
        "FrankWolfeZO": "asktell",
        "GapCertificate": "certificate",
        "GroupL1Ball": "constraints.balls",
        "Hull": "constraints.combined",
        "KSparsePolytope": "constraints.balls",
        "L1Ball": "constraints.balls",
        "L2Ball": "constraints.balls",
        "LInfBall": "constraints.balls",
        "LinearFiniteSum": "linear",
        "LpBall": "constraints.balls",
        "NuclearNormBall": "constraints.matrices",
        "OptimizationState": "_loop",
        "Product": "constraints.combined",
        "QuadraticFiniteSum": "separable",
        "RobustClassifierFW": "estimators",
        "RobustRegressorFW": "estimators",
        "Scaled": "constraints.combined",
        "Shifted": "constraints.combined",
        "Simplex": "constraints.simplices",
        "SolverComparison": "compare",
        "SparseLogisticRegressionFW": "estimators",
        "Spectrahedron": "constraints.matrices",
        "compare_solvers": "compare",
        "gap_certificate": "certificate",
        "load_cifar10": "mlpapers.datasets.cifar",
        "load_libsvm": "mlpapers.datasets.libsvm",
        "make_outlier_classification": "datasets",
        "make_sparse_logistic": "datasets",
        "minimize_fw_zo": "minimize",
        "universal_attack": "attack",
    },
)
