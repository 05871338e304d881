"""From the words of a command line to a verb and its arguments."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import tyro
from tyro.conf import Fixed, FlagCreatePairsOff, PositionalMetavarFromFieldName, SuppressFixed

from lsm2.errors import InputError

Verb = Callable[..., None]
CONFIG = (FlagCreatePairsOff, PositionalMetavarFromFieldName, SuppressFixed)
_HELP = ("-h", "--help")
_COMPLETION = ("--tyro-write-completion", "--tyro-print-completion")


@dataclass(frozen=True)
class Group:
    """Verbs that share their first word; they are loaded when that word is used."""

    kind: str
    """What the second word names, such as "preset"."""
    help: str
    load: Callable[[], Mapping[str, Verb | Group]]


@dataclass(frozen=True)
class Command:
    """A verb with its arguments."""

    verb: Verb
    arguments: inspect.BoundArguments

    def run(self) -> None:
        """Do it."""
        self.verb(*self.arguments.args, **self.arguments.kwargs)

    @property
    def output(self) -> Path | None:
        """Where the verb writes, if it does."""
        return self.arguments.arguments.get("out") or self.arguments.arguments.get("run")

    @property
    def flags(self) -> tuple[str, ...]:
        """Python names of all options, `group.name` where they stand in a dataclass: `train.batch_days`."""
        return tuple(self._flags())

    def _flags(self) -> Iterator[str]:
        for name, parameter in self.arguments.signature.parameters.items():
            value = self.arguments.arguments[name]
            if dataclasses.is_dataclass(value):
                hints = get_type_hints(type(value), include_extras=True)
                for field in dataclasses.fields(value):
                    if Fixed not in getattr(hints[field.name], "__metadata__", ()):
                        yield f"{name}.{field.name}"
            elif parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
                yield name


def parse(root: Group, words: Sequence[str]) -> Command:
    """The command that `words` give; shows help or a faulty option as tyro does, and then exits.

    Each verb is parsed alone, so that help and messages name it and no other. Raises InputError where no
    verb is named, or one that does not exist.
    """
    group = root
    called = ["lsm2"]
    rest = list(words)
    while rest and not rest[0].startswith("-"):
        word = rest.pop(0)
        verbs = group.load()
        if word not in verbs:
            raise InputError(_unknown(word, group.kind, verbs, called))
        called.append(word)
        found = verbs[word]
        if not isinstance(found, Group):
            bound = tyro.cli(_binding(found), prog=" ".join(called), args=rest, config=CONFIG)
            return Command(found, bound)
        group = found
    _explain(group, called, rest)


def _explain(group: Group, called: Sequence[str], rest: Sequence[str]) -> NoReturn:
    """Show a group's page of help, or write the script that completes its words."""
    if not rest or rest[0] not in (*_HELP, *_COMPLETION):
        choices = ",".join(group.load())
        raise InputError(f"name a {group.kind} first: `{' '.join(called)} {{{choices}}} ...`")
    app = _app(group, whole=rest[0] in _COMPLETION)
    app.cli(prog=" ".join(called), description=group.help, args=rest, config=CONFIG)
    raise AssertionError("help and completion exit")


def _unknown(word: str, kind: str, level: Mapping[str, object], called: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, level, n=1, cutoff=0.5)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"unknown {kind} {word!r}; {guess}`{' '.join(called)} --help` explains {', '.join(level)}"


def _binding(verb: Verb) -> Callable[..., inspect.BoundArguments]:
    """What takes a verb's arguments without running it."""

    @functools.wraps(verb)
    def bind(*arguments: Any, **options: Any) -> inspect.BoundArguments:
        bound = inspect.signature(verb).bind(*arguments, **options)
        bound.apply_defaults()
        return bound

    return bind


def _app(group: Group, whole: bool) -> tyro.extras.SubcommandApp:
    """The verbs for a page of help; with `whole` also those of groups below, for completion."""
    app = tyro.extras.SubcommandApp()
    for name, found in group.load().items():
        if not isinstance(found, Group):
            app.command(name=name, help=_first_sentence(found))(found)
        elif whole:
            app.command(_app(found, whole), name=name, help=found.help)
        else:
            app.command(name=name, help=found.help)(_nothing)
    return app


def _first_sentence(verb: Verb) -> str:
    return " ".join((inspect.getdoc(verb) or "").partition("\n\n")[0].split())


def _nothing() -> None:
    """Stands for a group that help names and nobody runs."""
