"""Kernels: from a PyTorch module to a verified, measured kernel, with or without a language model.

A task is captured as a graph, cut into regions, written down as a sketch that can be interpreted, rendered in
one of several kernel languages, verified against a float64 oracle and timed against PyTorch eager in pairs.
"""

from typing import TYPE_CHECKING

from mlpapers.core._lazy import attach

if TYPE_CHECKING:
    from mlpapers.kernels.agent import KernelAgent as KernelAgent
    from mlpapers.kernels.agents.conductor import Workflow as Workflow
    from mlpapers.kernels.agents.messages import TraceEvent as TraceEvent
    from mlpapers.kernels.agents.paper import paper_config as paper_config
    from mlpapers.kernels.bench import BenchmarkResult as BenchmarkResult
    from mlpapers.kernels.bench import KernelBench as KernelBench
    from mlpapers.kernels.bench_tasks import mini_bench as mini_bench
    from mlpapers.kernels.designs import Candidate as Candidate
    from mlpapers.kernels.designs import Design as Design
    from mlpapers.kernels.doctor import DoctorResult as DoctorResult
    from mlpapers.kernels.doctor import doctor as doctor
    from mlpapers.kernels.dsl.base import DSL as DSL
    from mlpapers.kernels.dsl.base import Backend as Backend
    from mlpapers.kernels.dsl.base import BuildError as BuildError
    from mlpapers.kernels.dsl.base import DSLUnavailable as DSLUnavailable
    from mlpapers.kernels.dsl.base import Hardware as Hardware
    from mlpapers.kernels.dsl.base import list_backends as list_backends
    from mlpapers.kernels.dsl.base import list_dsls as list_dsls
    from mlpapers.kernels.dsl.base import register_backend as register_backend
    from mlpapers.kernels.dsl.base import register_dsl as register_dsl
    from mlpapers.kernels.graph.capture import capture as capture
    from mlpapers.kernels.graph.ir import Graph as Graph
    from mlpapers.kernels.graph.ir import UnsupportedOp as UnsupportedOp
    from mlpapers.kernels.kernel import Kernel as Kernel
    from mlpapers.kernels.llm.budget import Budget as Budget
    from mlpapers.kernels.llm.budget import BudgetExceeded as BudgetExceeded
    from mlpapers.kernels.llm.cassette import Cassette as Cassette
    from mlpapers.kernels.llm.cassette import CassetteMiss as CassetteMiss
    from mlpapers.kernels.llm.client import ChatClient as ChatClient
    from mlpapers.kernels.llm.client import Completion as Completion
    from mlpapers.kernels.llm.client import LLMError as LLMError
    from mlpapers.kernels.llm.client import ScriptedClient as ScriptedClient
    from mlpapers.kernels.llm.litellm_client import LiteLLMClient as LiteLLMClient
    from mlpapers.kernels.llm.openai_client import OpenAIClient as OpenAIClient
    from mlpapers.kernels.metrics import fast_p as fast_p
    from mlpapers.kernels.metrics import geometric_mean as geometric_mean
    from mlpapers.kernels.metrics import pass_at_k as pass_at_k
    from mlpapers.kernels.migration import migrate as migrate
    from mlpapers.kernels.result import KernelResult as KernelResult
    from mlpapers.kernels.retrieval.documents import Document as Document
    from mlpapers.kernels.retrieval.ranking import retrieve as retrieve
    from mlpapers.kernels.sketch import Sketch as Sketch
    from mlpapers.kernels.sketch import SketchError as SketchError
    from mlpapers.kernels.synthesis.synthesise import design as design
    from mlpapers.kernels.task import Task as Task
    from mlpapers.kernels.task import TaskError as TaskError
    from mlpapers.kernels.verify import verify as verify
    from mlpapers.kernels.verify.report import CorrectnessReport as CorrectnessReport
    from mlpapers.kernels.verify.report import StaticIssue as StaticIssue
    from mlpapers.kernels.verify.report import Verdict as Verdict
    from mlpapers.kernels.verify.static import static_check as static_check

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "Backend": "dsl.base",
        "BenchmarkResult": "bench",
        "BuildError": "dsl.base",
        "Candidate": "designs",
        "CorrectnessReport": "verify.report",
        "DSL": "dsl.base",
        "DSLUnavailable": "dsl.base",
        "Design": "designs",
        "Graph": "graph.ir",
        "Hardware": "dsl.base",
        "Kernel": "kernel",
        "KernelAgent": "agent",
        "KernelBench": "bench",
        "KernelResult": "result",
        "Sketch": "sketch",
        "SketchError": "sketch",
        "StaticIssue": "verify.report",
        "Task": "task",
        "TaskError": "task",
        "TraceEvent": "agents.messages",
        "UnsupportedOp": "graph.ir",
        "Verdict": "verify.report",
        "Budget": "llm.budget",
        "BudgetExceeded": "llm.budget",
        "Cassette": "llm.cassette",
        "CassetteMiss": "llm.cassette",
        "ChatClient": "llm.client",
        "Completion": "llm.client",
        "LLMError": "llm.client",
        "LiteLLMClient": "llm.litellm_client",
        "OpenAIClient": "llm.openai_client",
        "ScriptedClient": "llm.client",
        "Workflow": "agents.conductor",
        "capture": "graph.capture",
        "design": "synthesis.synthesise",
        "DoctorResult": "doctor",
        "Document": "retrieval.documents",
        "doctor": "doctor",
        "fast_p": "metrics",
        "geometric_mean": "metrics",
        "list_backends": "dsl.base",
        "list_dsls": "dsl.base",
        "migrate": "migration",
        "mini_bench": "bench_tasks",
        "paper_config": "agents.paper",
        "pass_at_k": "metrics",
        "register_backend": "dsl.base",
        "register_dsl": "dsl.base",
        "retrieve": "retrieval.ranking",
        "static_check": "verify.static",
        "verify": "verify",
    },
)
