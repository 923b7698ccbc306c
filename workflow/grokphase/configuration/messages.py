"""One line for every mistake: its key, what is wrong, what would be right."""

import difflib
import re
import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from grokphase.configuration.experiments import EXPERIMENTS
from grokphase.sampling import kernels


def unknown(where: str, name: str, kind: str, known: Any) -> str:
    """One line that says `name` is unknown, with the nearest known name."""
    near = difflib.get_close_matches(str(name), [str(k) for k in known], n=1)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"known: {', '.join(map(str, known)) or 'none'}"
    )
    return f"{where}: there is no {kind} {name!r}; {hint}"


def explain(error: Any, root: type[BaseModel]) -> str:
    """One line for one pydantic error in a configuration of the type `root`."""
    # The model and the kernel follow as tags of unions; they are no keys of the file.
    location = [
        part
        for i, part in enumerate(error["loc"])
        if not (
            (i == 2 and error["loc"][0] == "experiments" and part in EXPERIMENTS)
            or (i and error["loc"][i - 1] == "sampler" and part in kernels.names())
        )
    ]
    where = ".".join(map(str, location))
    if error["type"] == "extra_forbidden" and "sampler" in error["loc"][-3:-1]:
        kernel, option = map(str, error["loc"][-2:])
        others = [
            name for name in kernels.names() if option in kernels.load(name).Settings.model_fields
        ]
        if others:
            return (
                f"{where}: {kernel} has no such option, which is one of {', '.join(others)}; "
                "remove it, or set it to null if another file gives it"
            )
    if error["type"] == "extra_forbidden":
        return unknown(where, str(location[-1]), "key", _keys_beside(error["loc"], root))
    if error["type"].startswith("union_tag"):
        key = error["ctx"]["discriminator"].strip("'")
        if error["type"] == "union_tag_not_found":
            return f"{where}.{key}: missing"
        known = kernels.names() if key == "kernel" else list(EXPERIMENTS)
        return unknown(f"{where}.{key}", error["ctx"]["tag"], key, known)
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"{where}: missing"
    if error["type"] == "value_error" and not where:
        return message
    shown = "" if error["type"] == "value_error" else f" (got {error['input']!r})"
    if isinstance(error["input"], str) and re.fullmatch(
        r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", error["input"]
    ):
        digits, exponent = re.split("[eE]", error["input"])
        digits += "" if "." in digits else ".0"
        wanted = f"{digits}e{int(exponent):+d}"
        if error["type"].startswith("int"):
            wanted = f"{float(error['input']):.0f}"
        shown += f"; YAML reads that as text: write {wanted}"
    return f"{where}: {message[:1].lower()}{message[1:]}{shown}"


def _tags(option: type[BaseModel]) -> tuple[Any, ...]:
    """Values of the key that tells this variant of a union from the others."""
    for key in ("kernel", "model"):
        if key in option.model_fields:
            return get_args(option.model_fields[key].annotation)
    return ()


def _keys_beside(location: tuple[int | str, ...], root: type[BaseModel]) -> list[str]:
    """Names allowed at the place of the last part of an error's location."""
    kind: Any = root
    for part in location[:-1]:
        options = [kind]
        while any(get_origin(o) in (Annotated, Union, types.UnionType) for o in options):
            options = [
                inner
                for o in options
                for inner in (
                    get_args(o)[:1]
                    if get_origin(o) is Annotated
                    else get_args(o)
                    if get_origin(o) in (Union, types.UnionType)
                    else (o,)
                )
            ]
        for option in options:
            if get_origin(option) is dict:
                kind = get_args(option)[1]
                break
            if isinstance(option, type) and issubclass(option, BaseModel):
                if part in _tags(option):
                    kind = option
                    break
                if part in option.model_fields:
                    kind = option.model_fields[part].annotation
                    break
        else:
            return []
    for option in get_args(kind) or (kind,):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return list(option.model_fields)
    return []
