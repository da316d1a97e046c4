"""Strict conversion of JSON values to frozen dataclasses by their type hints; errors name the place."""

from __future__ import annotations

import functools
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from tsq_cli.printable import printable, shown

T = TypeVar("T")

_DEEPEST = 16  # objects and lists within each other; pack.json has 5
_LONGEST_KEY = 100  # characters; the names of metrics are keys


class SchemaError(ValueError):
    """A JSON value that does not fit its type: its place, what was got and what was wanted."""

    def __init__(self, where: str, got: str, wanted: str) -> None:
        self.where, self.got, self.wanted = where, got, wanted
        super().__init__(f"{where or 'the document'} is {got}; wanted {wanted}")


def check_document(value: object, steps: tuple[str | int, ...] = ()) -> None:
    """Refuse a JSON document with control characters in a text or a key, deep nesting, or long keys.

    Args:
        value: as json.loads gives it.
        steps: the keys and indices that lead to it.

    Raises:
        SchemaError: it holds one of these.
    """
    if len(steps) > _DEEPEST:
        raise SchemaError("", f"nested more than {_DEEPEST} deep", "a pack's description")
    if isinstance(value, str) and printable(value) != value:
        raise SchemaError(_place(steps), shown(value), "characters that can be shown")
    if isinstance(value, dict):
        for key, entry in value.items():
            if len(key) > _LONGEST_KEY or printable(key) != key:
                raise SchemaError(_place(steps), f"an object with the key {shown(key)}", "short keys that can be shown")
            check_document(entry, (*steps, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            check_document(entry, (*steps, index))


def from_dict(cls: type[T], value: object, where: str = "") -> T:
    """Build a dataclass from a JSON object: no unknown keys, none missing, every value of the hinted type.

    Supported hints: str, int, float, bool, None, Literal, dataclasses, tuples, Mapping[str, X] and unions; among
    several dataclasses in a union the one whose `source: Literal[...]` equals the object's "source" is taken.

    Raises:
        SchemaError: the value does not fit; also when the dataclass' own `__post_init__` raises ValueError.
    """
    if not isinstance(value, dict):
        raise SchemaError(where, shown(value), "an object {...}")
    hints = _hints_of(cls)  # type: ignore[arg-type]
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    if unknown := sorted(set(value) - set(known)):
        raise SchemaError(_join(where, unknown[0]), "an unknown key", "one of " + ", ".join(known))
    for name, item in known.items():
        if name not in value and item.default is MISSING and item.default_factory is MISSING:
            raise SchemaError(_join(where, name), "missing", _described(hints[name]))
    arguments = {name: _convert(hints[name], entry, _join(where, name)) for name, entry in value.items()}
    try:
        return cls(**arguments)
    except SchemaError:
        raise
    except ValueError as error:
        raise SchemaError(where, "not consistent", str(error)) from error


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Refuse a number outside [least, most], for the `__post_init__` of a dataclass that from_dict builds.

    Raises:
        ValueError: it is outside, or NaN; the message says what is wanted and what was got.
    """
    if not least <= value <= most:
        raise ValueError(f"{name} from {least} to {most}, not {shown(value)}")


@functools.cache
def _hints_of(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


def _convert(hint: Any, value: object, where: str) -> Any:
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(get_args(hint), value, where)
    if origin is tuple:
        return _convert_tuple(get_args(hint), value, where)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise SchemaError(where, shown(value), _described(hint))
        entry_hint = get_args(hint)[1]
        return {key: _convert(entry_hint, entry, _join(where, key)) for key, entry in value.items()}
    if isinstance(hint, type) and is_dataclass(hint):
        return from_dict(hint, value, where)
    if not _is_scalar(hint, value):
        raise SchemaError(where, shown(value), _described(hint))
    return float(value) if hint is float else value  # type: ignore[arg-type]


def _convert_union(members: tuple[Any, ...], value: object, where: str) -> Any:
    if isinstance(value, dict):
        objects = [member for member in members if isinstance(member, type) and is_dataclass(member)]
        if len(objects) == 1:
            return from_dict(objects[0], value, where)
        by_source = {get_args(_hints_of(member)["source"])[0]: member for member in objects}
        if by_source:
            source = value.get("source")
            if not isinstance(source, str) or source not in by_source:
                got = shown(source) if "source" in value else "missing"
                raise SchemaError(_join(where, "source"), got, "one of " + ", ".join(by_source))
            return from_dict(by_source[source], value, where)
    for member in members:
        if not is_dataclass(member) and _is_scalar(member, value):
            return float(value) if member is float else value  # type: ignore[arg-type]
    raise SchemaError(where, shown(value), " or ".join(_described(member) for member in members))


def _convert_tuple(members: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise SchemaError(where, shown(value), "a list [...]")
    if members[1:] == (...,):
        members = (members[0],) * len(value)
    if len(value) != len(members):
        raise SchemaError(where, f"a list of {len(value)}", f"a list of {len(members)}")
    pairs = zip(members, value, strict=True)
    return tuple(_convert(member, entry, f"{where}[{i}]") for i, (member, entry) in enumerate(pairs))


def _is_scalar(hint: Any, value: object) -> bool:
    """Tell whether a value is of a plain type; true is no number, and a float may be written without its point."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and _is_finite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)


def _described(hint: Any) -> str:
    origin = get_origin(hint)
    if origin is Literal:
        return " or ".join(repr(choice) for choice in get_args(hint))
    if origin in (Union, types.UnionType):
        return " or ".join(_described(member) for member in get_args(hint))
    if origin is tuple:
        return "a list [...]"
    if origin is Mapping or is_dataclass(hint):
        return "an object {...}"
    names = {str: "a text", int: "a whole number", float: "a finite number", bool: "true or false"}
    return names.get(hint, "null")


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _place(steps: tuple[str | int, ...]) -> str:
    """Join steps to a place, as "roles.visual_encoder.preprocess.mean[0]"."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond the range of floats
        return False
