"""What can be set in a thing: its fields or arguments, as its own source documents them.

Nothing is written twice: meanings are those of the sections "Attributes" and "Args" of docstrings,
or the remarks behind fields.
"""

import ast
import dataclasses
import inspect
import io
import re
import sys
import textwrap
import tokenize
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["REQUIRED", "Setting", "check_kinds", "first_sentence", "settings", "text_of"]

OF_FLAX = ("parent", "name")  # what every module has
SECTION = re.compile(r"^(Attributes|Args):$", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\w+(?:, \w+)*): ", re.MULTILINE)
WORDS = {bool: "boolean", int: "integer", float: "number", str: "string", Path: "string"}
REQUIRED = "required"


class Setting(NamedTuple):
    """One of them.

    Attributes:
        name: as it is written.
        kind: what values it takes, in the words of TOML.
        default: as TOML writes it; empty for None, "required" where there is none.
        meaning: what the source says of it; empty where it is only a name.
    """

    name: str
    kind: str
    default: str
    meaning: str


def settings(
    thing: Any, leave_out: Sequence[str] = (), common: Mapping[str, str] = {}
) -> list[Setting]:
    """The fields of a dataclass or flax module, or the arguments of a function, in their order.

    Args:
        leave_out: names that are not told of.
        common: meanings by name, where the source of the thing says none.
    """
    sources: list[Any] = [thing]
    if isinstance(thing, type):
        own = {f.name: _default(f) for f in dataclasses.fields(thing) if f.init}
        leave_out = (*leave_out, *OF_FLAX) if "parent" in own else leave_out
        foreign = ("builtins", "flax.")
        sources = [c for c in inspect.getmro(thing) if not c.__module__.startswith(foreign)]
    else:
        own = {p.name: p.default for p in inspect.signature(thing).parameters.values()}
    hints, meanings = _hints(thing), dict(common)
    for source in reversed(sources):
        meanings |= _remarks(source) | _sections(source)
    return [
        Setting(name, kind_of(hints.get(name, Any)), _written(default), meanings.get(name, ""))
        for name, default in own.items()
        if name not in leave_out
    ]


def check_kinds(table: Mapping[str, Any], thing: Any, what: str) -> None:
    """Refuse values of another kind than the fields or arguments of a thing take.

    Args:
        table: values by name, as TOML reads them.
        what: the table they are in.

    Raises:
        ValueError: names the first one.
    """
    hints = _hints(thing)
    for name, value in table.items():
        hint = hints.get(name, Any)
        if not _fits(value, hint):
            kind = kind_of(hint)
            kind += ", true or false" if kind == "boolean" else ""
            raise ValueError(f"{what}.{name} takes a value of kind {kind}; got {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of TOML is one of a type, as far as the type says."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in inner
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in inner)
    if hint in WORDS:
        taken = {float: (int, float), Path: (str, Path)}.get(hint, (hint,))
        return isinstance(value, taken) and (hint is bool or not isinstance(value, bool))
    base = origin or hint
    if isinstance(base, type) and issubclass(base, Mapping):
        return isinstance(value, Mapping)
    if isinstance(base, type) and issubclass(base, Sequence):
        of_one = len([part for part in inner if part is not Ellipsis]) == 1
        return isinstance(value, list | tuple) and (
            not of_one or all(_fits(part, inner[0]) for part in value)
        )
    return value is None if hint is types.NoneType else True


def text_of(thing: Any, *, module: bool = False) -> str:
    """The docstring without sections, or that of the module the thing is in."""
    text = inspect.getdoc(sys.modules[thing.__module__] if module else thing) or ""
    return re.split(r"^\w+:$", text, maxsplit=1, flags=re.MULTILINE)[0].strip()


def first_sentence(thing: Any, *, module: bool = False) -> str:
    """The first line of its docstring, whole sentences of it."""
    line = text_of(thing, module=module).split("\n\n")[0].replace("\n", " ")
    return line.partition(", see the module")[0].partition("; see the module")[0].rstrip(".:")


def kind_of(hint: Any) -> str:
    """The values of a type, in the words of TOML."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(f'"{value}"' for value in inner)
    if origin in (typing.Union, types.UnionType):
        kinds = dict.fromkeys(kind_of(part) for part in inner if part is not types.NoneType)
        return " or ".join(kinds)
    if hint in WORDS:
        return WORDS[hint]
    base = origin or hint
    if isinstance(base, type) and issubclass(base, Mapping):
        return "table"
    if isinstance(base, type) and issubclass(base, Sequence):
        kinds = {kind_of(part) for part in inner if part is not Ellipsis}
        plain = len(kinds) == 1 and kinds <= set(WORDS.values())
        return f"array of {kinds.pop()}s" if plain else "array"
    return ""


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default


def _hints(thing: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing)
    except (NameError, TypeError):
        return dict(getattr(thing, "__annotations__", {}))


def _written(value: Any) -> str:
    """A default as TOML writes it."""
    if value is inspect.Parameter.empty:
        return REQUIRED
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{k} = {_written(v)}" for k, v in value.items()) + " }"
            if value
            else "{}"
        )
    if isinstance(value, Sequence):
        return f"[{', '.join(map(_written, value))}]"
    return type(value).__name__


def _sections(thing: Any) -> dict[str, str]:
    """Name -> meaning, of the section of attributes or arguments in a docstring."""
    parts = SECTION.split(inspect.getdoc(thing) or "")
    if len(parts) < 3:
        return {}
    body = re.split(r"^\S", parts[2], maxsplit=1, flags=re.MULTILINE)[0]
    pieces = ENTRY.split(body)[1:]
    found = {}
    for names, text in zip(pieces[::2], pieces[1::2], strict=True):
        found |= dict.fromkeys(names.split(", "), " ".join(text.split()).rstrip("."))
    return found


def _remarks(thing: Any) -> dict[str, str]:
    """Name -> meaning, of the remarks behind the fields of a class."""
    if not isinstance(thing, type):
        return {}
    try:
        source = textwrap.dedent(inspect.getsource(thing))
    except OSError:  # typed in, not in a file
        return {}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    remarks = {t.start[0]: t.string.lstrip("# ") for t in tokens if t.type == tokenize.COMMENT}
    (tree,) = ast.parse(source).body
    return {
        line.target.id: " ".join(remarks[i] for i in _lines(line) if i in remarks)
        for line in getattr(tree, "body", ())
        if isinstance(line, ast.AnnAssign)
        and isinstance(line.target, ast.Name)
        and any(i in remarks for i in _lines(line))
    }


def _lines(node: ast.AnnAssign) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)
