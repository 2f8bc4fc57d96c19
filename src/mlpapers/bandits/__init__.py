"""Bandits with a pairwise comparison oracle: maximise a function when only biased differences are seen.

A query names two points and a number of periods, and gets one number: an estimate of how much better the
first point is. ``PairwiseComparisonBandit`` is the paper's policy; environments, baselines and the
measurement of regret exponents are around it. Bring your own system by implementing ``ComparisonOracle``.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.bandits.anytime import HorizonDoubling as HorizonDoubling
    from mlpapers.bandits.arms import GPUCB as GPUCB
    from mlpapers.bandits.arms import GridUCB as GridUCB
    from mlpapers.bandits.baselines import ConvexBandit1D as ConvexBandit1D
    from mlpapers.bandits.baselines import KieferWolfowitz as KieferWolfowitz
    from mlpapers.bandits.baselines import TrisectionSearch as TrisectionSearch
    from mlpapers.bandits.comparison import PolicyComparisonResult as PolicyComparisonResult
    from mlpapers.bandits.comparison import compare_policies as compare_policies
    from mlpapers.bandits.concave import ConcaveFunctionEnv as ConcaveFunctionEnv
    from mlpapers.bandits.consistency import check_consistency as check_consistency
    from mlpapers.bandits.env import BanditEnv as BanditEnv
    from mlpapers.bandits.exponent import ExponentResult as ExponentResult
    from mlpapers.bandits.exponent import regret_exponent as regret_exponent
    from mlpapers.bandits.exponent import regret_slope as regret_slope
    from mlpapers.bandits.inventory import PricingInventoryEnv as PricingInventoryEnv
    from mlpapers.bandits.network import FluidSolution as FluidSolution
    from mlpapers.bandits.network import NetworkRevenueEnv as NetworkRevenueEnv
    from mlpapers.bandits.operations import BlindNRM as BlindNRM
    from mlpapers.bandits.operations import ExploreThenCommit as ExploreThenCommit
    from mlpapers.bandits.oracle import ComparisonOracle as ComparisonOracle
    from mlpapers.bandits.oracle import ComparisonOracleFromSimulator as ComparisonOracleFromSimulator
    from mlpapers.bandits.oracle import ComparisonResult as ComparisonResult
    from mlpapers.bandits.oracle import required_periods as required_periods
    from mlpapers.bandits.pairwise import PairwiseComparisonBandit as PairwiseComparisonBandit
    from mlpapers.bandits.penalty import EstimatedKnapsack as EstimatedKnapsack
    from mlpapers.bandits.penalty import LinearKnapsack as LinearKnapsack
    from mlpapers.bandits.policy import BanditPolicy as BanditPolicy
    from mlpapers.bandits.policy import PolicyMismatchError as PolicyMismatchError
    from mlpapers.bandits.proximal import InexactProximalGradient as InexactProximalGradient
    from mlpapers.bandits.result import RegretResult as RegretResult
    from mlpapers.bandits.theory import default_cells as default_cells
    from mlpapers.bandits.theory import local_poly_features as local_poly_features
    from mlpapers.bandits.theory import theory_exponent as theory_exponent
    from mlpapers.bandits.tournament import TournamentLinUCB as TournamentLinUCB

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "BanditEnv": "env",
        "BanditPolicy": "policy",
        "BlindNRM": "operations",
        "ComparisonOracle": "oracle",
        "ComparisonOracleFromSimulator": "oracle",
        "ComparisonResult": "oracle",
        "ConcaveFunctionEnv": "concave",
        "ConvexBandit1D": "baselines",
        "EstimatedKnapsack": "penalty",
        "ExploreThenCommit": "operations",
        "ExponentResult": "exponent",
        "FluidSolution": "network",
        "GPUCB": "arms",
        "GridUCB": "arms",
        "HorizonDoubling": "anytime",
        "InexactProximalGradient": "proximal",
        "KieferWolfowitz": "baselines",
        "LinearKnapsack": "penalty",
        "NetworkRevenueEnv": "network",
        "PairwiseComparisonBandit": "pairwise",
        "PolicyComparisonResult": "comparison",
        "PolicyMismatchError": "policy",
        "PricingInventoryEnv": "inventory",
        "RegretResult": "result",
        "TournamentLinUCB": "tournament",
        "TrisectionSearch": "baselines",
        "check_consistency": "consistency",
        "compare_policies": "comparison",
        "default_cells": "theory",
        "local_poly_features": "theory",
        "regret_exponent": "exponent",
        "regret_slope": "exponent",
        "required_periods": "oracle",
        "theory_exponent": "theory",
    },
)
