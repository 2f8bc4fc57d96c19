"""The commands ``mlpapers kernels …``: parse, call the library, print.

Exit status 0 where a kernel was found and is right, 1 where not, 2 on wrong usage,
3 where a file cannot be read or written.
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlpapers.core._files import check_writable, write_text
from mlpapers.core._json import json_number

if TYPE_CHECKING:
    from mlpapers.kernels.agent import KernelAgent
    from mlpapers.kernels.result import KernelResult
    from mlpapers.kernels.task import Task

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Write, verify and measure kernels for PyTorch modules.",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _check_out(path: Path | None) -> Path | None:
    """Find out before minutes of search, not after them, that the result cannot be saved."""
    if path is not None:
        check_writable(path)
    return path


_OUT_HELP = "Save: a source for *.py, else all."
TaskFile = Annotated[
    Path, typer.Argument(metavar="TASK", exists=True, dir_okay=False, help="A file in KernelBench's format.")
]
Dsl = Annotated[str, typer.Option(help="Kernel language; auto takes what is usable.")]
Backend = Annotated[str, typer.Option(help="Device; auto takes what is there.")]
Sizes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Replace a constant of the task.", show_default=False),
]
Search = Annotated[str, typer.Option(help="none, autotune, evolve or ucb.")]
Budget = Annotated[float, typer.Option("--time-budget", help="Seconds after which nothing new is begun.")]
Library = Annotated[str, typer.Option("--library-ops", help="none, contractions or any.")]
Shapes = Annotated[str, typer.Option("--shape-policy", help="batch, static or dynamic.")]
StoreFile = Annotated[Path | None, typer.Option("--store", help="Where runs are kept.", show_default=False)]
Seed = Annotated[int, typer.Option(min=0, help="What all randomness is drawn from.")]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="A language model that writes kernels too, behind an OpenAI-compatible server.",
        show_default=False,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", metavar="URL", help="The server; OpenAI's without it.", show_default=False),
]
KeyName = Annotated[str, typer.Option("--api-key-env", help="The environment variable that holds the key.")]
Calls = Annotated[
    int | None,
    typer.Option("--max-calls", min=1, help="Questions to the model in one run.", show_default=False),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else to stdout.")]


@app.command()
def generate(
    task: TaskFile,
    dsl: Dsl = "auto",
    backend: Backend = "auto",
    sizes: Sizes = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", callback=_check_out, help=_OUT_HELP, show_default=False),
    ] = None,
    search: Search = "autotune",
    time_budget: Budget = 120.0,
    library_ops: Library = "contractions",
    shape_policy: Shapes = "batch",
    store: StoreFile = None,
    model: Model = None,
    base_url: BaseUrl = None,
    api_key_env: KeyName = "OPENAI_API_KEY",
    max_calls: Calls = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Find a kernel for a task."""
    loaded = _task(task, sizes)
    options = {
        **_model(model, base_url, api_key_env, max_calls),
        "search": search,
        "time_budget": time_budget,
        "library_ops": library_ops,
        "shape_policy": shape_policy,
        "store": store,
        "random_state": seed,
    }
    with _usage(store), _kept_runs(store) as kept:
        agent = kept(dsl=dsl, backend=backend, **options)
        result = agent.generate(loaded)
        if out is not None and result.success:
            _save(result, out)
    _finish(result, as_json)


@app.command()
def tune(
    kernel: Annotated[
        Path, typer.Argument(metavar="RESULT", exists=True, dir_okay=False, help="A saved KernelResult.")
    ],
    out: Annotated[Path | None, typer.Option("--out", "-o", callback=_check_out, show_default=False)] = None,
    time_budget: Budget = 120.0,
    store: StoreFile = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Find better settings of a kernel's knobs."""
    from mlpapers.kernels.result import KernelResult

    with _usage(store), _kept_runs(store) as kept:
        given = KernelResult.load(kernel)
        if given.kernel is None:
            raise typer.BadParameter(f"{kernel} holds no kernel")
        agent = kept(time_budget=time_budget, store=store, random_state=seed)
        result = agent.tune(given.kernel)
        if out is not None and result.success:
            _save(result, out)
    _finish(result, as_json)


@app.command()
def migrate(
    task: TaskFile,
    to: Annotated[str, typer.Option("--to", help="The language to come to.")],
    kernel: Annotated[
        Path | None,
        typer.Option(
            "--kernel",
            exists=True,
            dir_okay=False,
            help="A saved KernelResult, or a source.",
            show_default=False,
        ),
    ] = None,
    backend: Backend = "auto",
    sizes: Sizes = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", callback=_check_out, help=_OUT_HELP, show_default=False),
    ] = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Render a kernel in another language and examine it; the source is printed or saved in any case."""
    from mlpapers.kernels.migration import migrate as migrated
    from mlpapers.kernels.result import KernelResult

    loaded = _task(task, sizes)
    with _usage():
        given: Any = ""
        if kernel is not None and kernel.suffix == ".py":
            given = _text(kernel)
        elif kernel is not None:
            given = KernelResult.load(kernel).kernel
        result = migrated(given, to, backend, task=loaded, random_state=seed)
        if out is not None and out.suffix == ".py":
            write_text(out, result.code)
        elif out is not None:
            result.save(out)
    _finish(result, as_json)


@app.command("verify")
def verify_kernel(
    task: TaskFile,
    kernel: Annotated[
        Path, typer.Argument(metavar="KERNEL", exists=True, dir_okay=False, help="Source with ModelNew.")
    ],
    dsl: Dsl = "cpp",
    backend: Backend = "auto",
    sizes: Sizes = None,
    library_ops: Library = "contractions",
    shape_policy: Shapes = "batch",
    no_timing: Annotated[bool, typer.Option("--no-timing", help="Judge it, but do not time it.")] = False,
    seed: Annotated[int | None, typer.Option(help="Fresh seeds by default.", show_default=False)] = None,
    as_json: JsonFlag = False,
) -> None:
    """Examine somebody's kernel: whether it is right, honest, and faster than eager."""
    from mlpapers.kernels.agents.messages import to_json
    from mlpapers.kernels.verify.pipeline import verify

    with _usage():
        verdict = verify(
            _task(task, sizes),
            _text(kernel),
            dsl=dsl,
            backend=backend,
            timing=not no_timing,
            library_ops=library_ops,
            shape_policy=shape_policy,
            random_state=seed,
        )
    typer.echo(to_json(verdict) if as_json else str(verdict))
    raise typer.Exit(0 if verdict.ok else 1)


@app.command()
def bench(
    path: Annotated[
        Path | None,
        typer.Option(help="A clone of KernelBench; our own tasks without it.", show_default=False),
    ] = None,
    level: Annotated[int, typer.Option(min=1, max=4, help="Level of KernelBench.")] = 1,
    ids: Annotated[
        str | None, typer.Option(help="Numbers of problems, by commas.", show_default=False)
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Time torch.compile beside.")] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", callback=_check_out, help="Save the result.", show_default=False),
    ] = None,
    search: Search = "none",
    time_budget: Budget = 60.0,
    store: StoreFile = None,
    seed: Seed = 0,
    as_json: JsonFlag = False,
) -> None:
    """Run a benchmark: KernelBench from a clone, or our own tasks."""
    from mlpapers.kernels.bench import KernelBench, evaluate
    from mlpapers.kernels.bench_tasks import mini_bench

    wanted = None if ids is None else _numbers(ids)
    with _usage(store), _kept_verdicts(KeyboardInterrupt):
        agent = _agent(search=search, time_budget=time_budget, store=store, random_state=seed)
        baseline = ("eager", "compile") if compiled else ("eager",)
        if path is None:
            tasks = mini_bench()
            beyond = [number for number in wanted or () if number >= len(tasks)]
            if beyond:
                raise typer.BadParameter(f"--ids: our own tasks are 0 to {len(tasks) - 1}; got {beyond[0]}")
            chosen = tasks if wanted is None else [tasks[number] for number in wanted]
            result = evaluate(agent, chosen, baseline=baseline)
        else:
            problems = KernelBench(path, level=level, problems=wanted)
            result = problems.evaluate(agent, baseline=baseline)
        if out is not None:
            with _kept_verdicts(OSError):
                result.save(out)
    typer.echo(result.table.to_json(orient="records") if as_json else result.summary())
    raise typer.Exit(0 if result.correctness == 1.0 else 1)


@app.command("doctor")
def show_doctor(as_json: JsonFlag = False) -> None:
    """Say what is installed and what each kernel language can do here."""
    from mlpapers.kernels.doctor import doctor

    found = doctor()
    typer.echo(found.checks.to_json(orient="records") if as_json else found.summary())


@app.command()
def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")],
    store: StoreFile = None,
    model: Model = None,
    base_url: BaseUrl = None,
    api_key_env: KeyName = "OPENAI_API_KEY",
    max_calls: Calls = None,
    as_json: JsonFlag = False,
) -> None:
    """Go on with a run that was interrupted; one with a language model needs it again."""
    options = _model(model, base_url, api_key_env, max_calls)
    if store is not None and not store.exists():
        raise typer.BadParameter(f"--store: there is no file {store}")
    with _usage(store), _kept_runs(store) as kept:
        result = kept(store=store, **options).resume(run)
    _finish(result, as_json)


@contextlib.contextmanager
def _usage(store: Path | None = None) -> Iterator[None]:
    """Turn what wrong arguments raise into wrong usage, exit status 2, and a store that fails into 3."""
    import sqlite3

    from mlpapers.kernels.backends import cache_folder
    from mlpapers.kernels.dsl.base import DSLUnavailable

    try:
        yield
    except sqlite3.Error as error:
        where = store if store is not None else cache_folder() / "store.sqlite"
        typer.echo(f"Error: the store of runs {where}: {error}", err=True)
        raise typer.Exit(3) from None
    except DSLUnavailable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    except (ValueError, KeyError, TypeError, IndexError, FileNotFoundError) as error:
        # The operating system's own, with a number and the name of a file.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise typer.BadParameter(str(error.args[0] if error.args else error)) from None


@contextlib.contextmanager
def _kept_runs(store: Path | None) -> Iterator[Callable[..., KernelAgent]]:
    """Give a maker of the agent; where its run is interrupted, say how to go on with it."""
    made: list[KernelAgent] = []

    def make(**options: Any) -> KernelAgent:
        made.append(_agent(**options))
        return made[-1]

    try:
        yield make
    except KeyboardInterrupt:
        run = next((agent.run_id_ for agent in made if hasattr(agent, "run_id_")), None)
        if run is not None:
            where = "" if store is None else f" --store {store}"
            typer.echo(f"The run is kept: mlpapers kernels resume {run}{where}", err=True)
        raise


@contextlib.contextmanager
def _kept_verdicts(reason: type[BaseException]) -> Iterator[None]:
    """Say, where a benchmark ends for this reason, that its verdicts are not lost."""
    try:
        yield
    except reason:
        typer.echo("What was verified is kept: the same command does not verify it again.", err=True)
        raise


def _text(path: Path) -> str:
    """Read a source; wrong usage where it is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise typer.BadParameter(f"{path} is no text in UTF-8") from None


def _numbers(ids: str) -> list[int]:
    """Return the numbers of problems; wrong usage where there is something else."""
    parts = [part.strip() for part in ids.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise typer.BadParameter(f"--ids needs numbers by commas, such as 19,23; got {ids!r}")
    return [int(part) for part in parts]


def _task(path: Path, sizes: list[str] | None) -> Task:
    from mlpapers.kernels.task import Task

    overrides = {}
    for item in sizes or []:
        name, equals, value = item.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set needs NAME=VALUE; got {item!r}")
        try:
            overrides[name.strip()] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise typer.BadParameter(f"--set {name}: {value!r} is no literal") from None
    with _usage():
        return Task.from_file(path, overrides=overrides)


def _model(name: str | None, base_url: str | None, api_key_env: str, max_calls: int | None) -> dict[str, Any]:
    """Return the agent's parameters about a language model; wrong usage where it cannot be asked at all.

    Without this the run would go on by rules alone, and its trace would tell why: too late for somebody who
    asked for a model.
    """
    import importlib.util
    import os

    if name is None:
        if base_url is not None or max_calls is not None:
            raise typer.BadParameter("--base-url and --max-calls are about a model; give --model NAME")
        return {}
    if importlib.util.find_spec("openai") is None:
        raise typer.BadParameter("--model needs the package openai: pip install 'mlpapers[llm]'")
    if base_url is not None and not base_url.startswith(("http://", "https://")):
        raise typer.BadParameter(
            f"--base-url must be an http address such as http://localhost:8000/v1; got {base_url!r}"
        )
    if base_url is None and not os.environ.get(api_key_env):
        raise typer.BadParameter(
            f"--model without --base-url asks OpenAI; the variable {api_key_env} must hold the key"
        )
    from mlpapers.kernels.llm.budget import Budget
    from mlpapers.kernels.llm.openai_client import OpenAIClient

    with _usage():
        client = OpenAIClient(name, base_url, api_key_env)
        return {"llm": client, "budget": None if max_calls is None else Budget(max_calls=max_calls)}


def _agent(**options: Any) -> KernelAgent:
    from mlpapers.kernels.agent import KernelAgent

    return KernelAgent(**options)


def _save(result: KernelResult, out: Path) -> None:
    """Save what was found; where that fails, say under which name the run is kept."""
    try:
        result.save(out)
    except OSError:
        typer.echo(f"The kernel is kept: mlpapers kernels resume {result.run_id}", err=True)
        raise


def _finish(result: KernelResult, as_json: bool) -> None:
    if as_json:
        row = {
            "success": result.success,
            "run": result.run_id,
            "speedup": result.speedup,
            "speedup_ci": result.speedup_ci,
            "eager_ms": result.eager_ms,
            "kernel_ms": result.kernel_ms,
            "origin": result.origin,
            "disclosures": result.disclosures,
            "stage": result.report.stage,
            "error": result.report.error,
            "code": result.code,
        }
        typer.echo(json.dumps({name: json_number(value) for name, value in row.items()}))
    else:
        typer.echo(result.summary())
        if result.run_id:
            typer.echo(f"run {result.run_id}", err=True)
    raise typer.Exit(0 if result.success else 1)
