"""The sketch's text form: a writer and a parser that undo each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from mlpapers.kernels.sketch import (
    Alloc,
    Call,
    Compute,
    For,
    Load,
    Sketch,
    SketchError,
    Store,
    Symbol,
    Tensor,
    View,
)

_NAME = r"[A-Za-z_]\w*"
_LIST = r"\[([^\]]*)\]"
_PATTERNS = {
    "sketch": re.compile(rf"sketch ({_NAME})$"),
    "symbol": re.compile(rf"symbol ({_NAME}) = size\(({_NAME}), (\d+)\)$"),
    "require": re.compile(r"require (.+ (?:>=|!=) -?\d+)$"),
    "constexpr": re.compile(rf"constexpr ({_NAME}) = (-?\d+)$"),
    "tensor": re.compile(rf"tensor ({_NAME}){_LIST}: (\w+) (\w+)(?: (.*))?$"),
    "view": re.compile(rf"view ({_NAME}){_LIST} = ({_NAME}) strides {_LIST} offset (.+)$"),
    "result": re.compile(r"result (tensor|tuple|list) \(([^)]*)\)$"),
    "update": re.compile(rf"update (\S+) = ({_NAME})$"),
    "template": re.compile(r"template (.+)$"),
    "hint": re.compile(r"@llm_hint\((\w+), (\w+)\)$"),
    "for": re.compile(rf"for ({_NAME}) in range\((.+)\):$"),
    "alloc": re.compile(rf"({_NAME}) = alloc\({_LIST}, (\w+)((?:, \w+)*?)(?:, init=([^,()]+))?\)$"),
    "load": re.compile(rf"load\(({_NAME}){_LIST} -> ({_NAME})\)$"),
    "store": re.compile(rf"store\(({_NAME}) -> ({_NAME}){_LIST}\)$"),
    "call": re.compile(r"call (\S+)\(([^)]*)\) -> \(([^)]*)\) (\{.*\})$"),
    "compute": re.compile(rf"({_NAME})\((.*) -> ([^:()]+)(?:: (\w+))?\)$"),
}
_DECLARATIONS = (
    "sketch", "symbol", "require", "constexpr", "tensor", "view", "result", "update", "template",
)  # fmt: skip
_HOST = "host |"


def write_sketch(sketch: Sketch) -> str:
    """Return the text of a sketch."""
    lines = [f"sketch {sketch.name}"]
    lines += [f"symbol {s.name} = size({s.tensor}, {s.dim})" for s in sketch.symbols]
    lines += [f"require {condition}" for condition in sketch.requires]
    lines += [f"constexpr {name} = {value}" for name, value in sketch.constexprs]
    for t in sketch.tensors:
        lines.append(f"tensor {t.name}[{', '.join(t.dims)}]: {t.dtype} {t.role} {t.key}".rstrip())
    for v in sketch.views:
        lines.append(
            f"view {v.name}[{', '.join(v.dims)}] = {v.base} "
            f"strides [{', '.join(v.strides)}] offset {v.offset}"
        )
    lines += [f"template {name}" for name in sketch.templates]
    _write_body(sketch.body, 0, lines)
    lines += [f"update {key} = {name}" for key, name in sketch.updates]
    lines.append(f"result {sketch.structure} ({', '.join(sketch.results)})")
    lines += [f"{_HOST} {line}" if line else _HOST for line in sketch.host.split("\n")] if sketch.host else []
    return "\n".join(lines) + "\n"


def _write_body(body: Sequence[Any], depth: int, lines: list[str]) -> None:
    pad = "    " * depth
    for s in body:
        if isinstance(s, For):
            lines += [f"{pad}@llm_hint({kind}, {where})" for kind, where in s.hints]
            lines.append(f"{pad}for {s.var} in range({s.lo}, {s.hi}, {s.step}):")
            _write_body(s.body, depth + 1, lines)
        elif isinstance(s, Alloc):
            hints = "".join(f", {hint}" for hint in s.hints)
            init = f", init={s.init}" if s.init else ""
            lines.append(f"{pad}{s.name} = alloc([{', '.join(s.dims)}], {s.dtype}{hints}{init})")
        elif isinstance(s, Load):
            lines.append(f"{pad}load({s.source}[{', '.join(s.index)}] -> {s.dst})")
        elif isinstance(s, Store):
            lines.append(f"{pad}store({s.src} -> {s.target}[{', '.join(s.index)}])")
        elif isinstance(s, Call):
            lines.append(f"{pad}call {s.target}({', '.join(s.args)}) -> ({', '.join(s.dst)}) {s.spec}")
        else:
            kind = f": {s.dtype}" if s.dtype else ""
            lines.append(f"{pad}{s.op}({', '.join(s.args)} -> {', '.join(s.dst)}{kind})")


def split_list(text: str) -> tuple[str, ...]:
    """Split at commas that stand in no brackets."""
    items, depth, start = [], 0, 0
    for k, letter in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            items.append(text[start:k].strip())
            start = k + 1
    last = text[start:].strip()
    return (*items, last) if last or items else ()


class _Parser:
    def __init__(self, text: str) -> None:
        self.lines = text.split("\n")
        if self.lines and self.lines[-1] == "":
            self.lines.pop()
        self.parts: dict[str, list[Any]] = {
            "symbols": [], "requires": [], "constexprs": [], "tensors": [], "views": [], "updates": [],
            "templates": [],
        }  # fmt: skip
        self.name = ""
        self.structure = "tensor"
        self.results: tuple[str, ...] = ()
        self.host: list[str] = []

    def fail(self, number: int, message: str, col: int = 1) -> SketchError:
        return SketchError(message, number + 1, col)

    def parse(self) -> Sketch:
        if not self.lines:
            raise SketchError("the sketch is empty", 1, 1)
        body, _ = self.block(0, 0)
        if not self.name:
            raise SketchError("the first line must be: sketch NAME", 1, 1)
        return Sketch(
            self.name,
            body=tuple(body),
            results=self.results,
            structure=self.structure,
            host="\n".join(self.host),
            **{key: tuple(value) for key, value in self.parts.items()},
        )

    def block(self, number: int, depth: int) -> tuple[list[Any], int]:
        body: list[Any] = []
        hints: list[tuple[str, str]] = []
        while number < len(self.lines):
            raw = self.lines[number]
            line = raw.strip()
            if raw.startswith(_HOST):
                self.host.append(raw[len(_HOST) + 1 :])
                number += 1
                continue
            if not line or line.startswith("#"):
                number += 1
                continue
            indent = len(raw) - len(raw.lstrip(" "))
            if indent < 4 * depth:
                break
            if indent != 4 * depth:
                raise self.fail(number, f"indent of {indent} where {4 * depth} is expected", indent + 1)
            if match := _PATTERNS["hint"].match(line):
                hints.append((match[1], match[2]))
                number += 1
                continue
            if match := _PATTERNS["for"].match(line):
                bounds = split_list(match[2])
                if len(bounds) != 3:
                    raise self.fail(number, "a loop needs range(lo, hi, step)", indent + 1)
                inner, after = self.block(number + 1, depth + 1)
                body.append(For(match[1], *bounds, tuple(hints), tuple(inner), number + 1))
                hints, number = [], after
                continue
            if hints:
                raise self.fail(number, "a hint must stand before a loop", indent + 1)
            statement = self.statement(line, number, indent)
            if statement is not None:
                body.append(statement)
            number += 1
        if hints:
            raise self.fail(number - 1, "a hint must stand before a loop")
        return body, number

    def statement(self, line: str, number: int, indent: int) -> Any:
        """Parse one line; a declaration is filed and gives None."""
        at = number + 1
        word = line.split(" ", 1)[0]
        if word in _DECLARATIONS:
            match = _PATTERNS[word].match(line)
            if match is None:
                raise self.fail(number, f"malformed {word} line: {line!r}", indent + 1)
            self.declare(word, match)
            return None
        if match := _PATTERNS["alloc"].match(line):
            hints = tuple(item.strip() for item in match[4].split(",") if item.strip())
            return Alloc(match[1], split_list(match[2]), match[3], hints, match[5] or "", at)
        if match := _PATTERNS["load"].match(line):
            return Load(match[1], split_list(match[2]), match[3], at)
        if match := _PATTERNS["store"].match(line):
            return Store(match[1], match[2], split_list(match[3]), at)
        if match := _PATTERNS["call"].match(line):
            return Call(match[1], match[4], split_list(match[2]), split_list(match[3]), at)
        if match := _PATTERNS["compute"].match(line):
            return Compute(match[1], split_list(match[2]), split_list(match[3]), match[4] or "", at)
        raise self.fail(number, f"not a statement: {line!r}", indent + 1)

    def declare(self, word: str, match: re.Match[str]) -> None:
        if word == "sketch":
            self.name = match[1]
        elif word == "symbol":
            self.parts["symbols"].append(Symbol(match[1], match[2], int(match[3])))
        elif word == "require":
            self.parts["requires"].append(match[1])
        elif word == "constexpr":
            self.parts["constexprs"].append((match[1], int(match[2])))
        elif word == "tensor":
            self.parts["tensors"].append(
                Tensor(match[1], split_list(match[2]), match[3], match[4], match[5] or "")
            )
        elif word == "view":
            self.parts["views"].append(
                View(match[1], match[3], split_list(match[2]), split_list(match[4]), match[5])
            )
        elif word == "result":
            self.structure, self.results = match[1], split_list(match[2])
        elif word == "update":
            self.parts["updates"].append((match[1], match[2]))
        else:
            self.parts["templates"].append(match[1])


def parse_sketch(text: str) -> Sketch:
    """Return the sketch that a text describes; SketchError with line and column where it describes none."""
    return _Parser(text).parse()
