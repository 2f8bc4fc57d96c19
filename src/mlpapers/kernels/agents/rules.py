"""Designer, coder and verifier by rules: no network, no language model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlpapers.kernels.agents.messages import TaskSpec
from mlpapers.kernels.store import Store
from mlpapers.kernels.verify.examiner import Examiner
from mlpapers.kernels.verify.report import Verdict

if TYPE_CHECKING:
    from mlpapers.kernels.designs import Candidate, Design


@dataclass(frozen=True)
class Designer:
    """Designs by rules: the graph is captured, cut into regions and written as sketches."""

    def run(self, spec: TaskSpec) -> tuple[Design, ...]:
        """Return the designs of a task, best guess first.

        Parameters
        ----------
        spec : TaskSpec

        Returns
        -------
        designs : tuple of Design

        Raises
        ------
        UnsupportedOp
            If an operation has no template and the library may not do it.
        """
        from mlpapers.kernels.synthesis.synthesise import synthesise

        return tuple(
            synthesise(
                spec.task,
                dsl=spec.dsl,
                backend=spec.backend,
                library_ops=spec.library_ops,
                precision=spec.precision,
                algebra=spec.algebra,
                shape_policy=spec.shape_policy,
            )
        )


@dataclass(frozen=True)
class Coder:
    """Renders a design in a language.

    Attributes
    ----------
    dsl, backend : str
    """

    dsl: str
    backend: str

    def run(self, design: Design, params: Mapping[str, Any] | None = None) -> Candidate:
        """Return the candidate of a design at some setting of the knobs.

        Parameters
        ----------
        design : Design
        params : mapping, optional
            By default the language's own.

        Returns
        -------
        candidate : Candidate
        """
        from mlpapers.kernels.synthesis.synthesise import candidate

        return candidate(design, self.dsl, self.backend, None if params is None else dict(params))


class Verifier:
    """Judges candidates; never a language model. What the store knows is not judged again.

    Parameters
    ----------
    examiner : Examiner
    store : Store
    run_id : str
    arch : str
        The device, as attempts are filed under it.
    """

    def __init__(self, examiner: Examiner, store: Store, run_id: str, arch: str) -> None:
        self._examiner, self._store, self._run_id, self._arch = examiner, store, run_id, arch

    def run(self, candidate: Candidate, *, timing: bool = True) -> Verdict:
        """Return the verdict on a candidate.

        Parameters
        ----------
        candidate : Candidate
        timing : bool

        Returns
        -------
        verdict : Verdict
        """
        fingerprint = self._examiner.task.fingerprint
        exam = self._exam(timing)
        known = self._store.find_attempt(
            task_fp=fingerprint, code=candidate.code, arch=self._arch, exam=exam, run_id=self._run_id
        )
        if known is not None:
            return known
        verdict = self._examiner.examine(candidate.code, timing=timing)
        self._store.add_attempt(
            self._run_id,
            task_fp=fingerprint,
            dsl=candidate.dsl,
            backend=candidate.backend,
            arch=self._arch,
            exam=exam,
            params=candidate.params,
            code=candidate.code,
            origin=candidate.origin,
            verdict=verdict,
        )
        return verdict

    def _exam(self, timing: bool) -> str:
        """Return what identifies the examination: its settings and the library's version."""
        import torch

        import mlpapers

        settings = asdict(self._examiner.settings)
        settings["sandbox"] = str(settings["sandbox"])
        known = [settings, timing, mlpapers.__version__, torch.__version__, torch.get_num_threads()]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
