"""Hold what the user declares about a take, whichever way it was given."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import EgoXInputError
from ..file_names import META
from ..frozen import frozen
from ..remarks import FactRow
from ..safe_files import read_json
from .table import FACTS, parse_fact

_SEPARATOR = re.compile(r"[,\s]+(?=\w+\.\w+\s*=)|[;\n]+")
"""Between two declarations of one text: a new line, a semicolon, or a comma before the next."""


MAX_BYTES = 256 * 2**20
"""Of a meta.json, of which a list of takes has 99 MB."""
ARGUMENT = "declared"
"""Name in rows of whoever gives declarations as an argument."""

ARGUMENTS: Mapping[str, tuple[str, Any]] = {
    "frames": ("file_frames", "auto"),
    "every_nth": ("every_nth", 0),
    "scale": ("scale", "as is"),
    "fov_deg": ("fov_deg", 0.0),
}
"""Arguments that declare a fact as well, and their defaults, by the end of the fact's name."""


class Declaration(NamedTuple):
    """Value of a fact that the user declared, and where."""

    value: Any
    by: str
    overruled: tuple[tuple[Any, str], ...] = ()  # what other ways declare, and which

    def row(self, name: str) -> FactRow:
        """Record the value of a fact that nothing else states."""
        fact = FACTS[name]
        others = tuple(
            f"{fact.show(value)} ({by})"
            for value, by in self.overruled
            if not fact.same(value, self.value)
        )
        return FactRow(fact=name, value=fact.show(self.value), by=self.by, others=others)


@frozen
class Declared:
    """Facts that the user declared, by name."""

    declarations: tuple[tuple[str, Declaration], ...] = ()

    @classmethod
    def of(
        cls,
        given: Declared | Mapping[str, object] | str | None,
        by: str = ARGUMENT,
        *,
        # Prefixes of the facts that this door takes; empty: all.
        own: tuple[str, ...] = (),
    ) -> Declared:
        """Read declarations from a text (``FACT=VALUE`` by line, semicolon or comma) or a mapping.

        Raises:
            EgoXInputError: no such fact or value, a text of another form, a fact twice, a fact of
                another door.
        """
        if isinstance(given, Declared):
            given._check_own(own)
            return given
        if isinstance(given, str):
            given = _split_text(given, by)
        if given is not None and not isinstance(given, Mapping):
            raise EgoXInputError(
                by,
                got=type(given).__name__,
                expected="FACT=VALUE as text, or an object of facts",
                fix="write it so",
            )
        declared = cls(
            declarations=tuple(
                (name, Declaration(parse_fact(name, value, by), by))
                for name, value in (given or {}).items()
            )
        )
        declared._check_own(own)
        return declared

    @classmethod
    def of_folder(cls, folder: Path) -> Declared:
        """Read what the meta.json of a take's folder declares.

        A link to another folder isn't followed.

        Raises:
            EgoXInputError: no such fact or value.
        """
        file = folder / META
        if (
            not file.is_file()
            or file.resolve().parent != folder.resolve()
            or b'"declared"' not in file.read_bytes()
        ):
            return NOTHING_DECLARED
        content = read_json(file, META, MAX_BYTES)
        given = content.get("declared") if isinstance(content, dict) else None
        return cls.of(given, f"declared in {file.name}")

    @property
    def exo_part(self) -> str:
        """Part of the exo video's picture that is the exo camera's."""
        return self.value("exo.part") or "whole"

    def check_whole_video(self, what: str) -> None:
        """Refuse a declared part of the exo video where only whole videos are read.

        Raises:
            EgoXInputError: exo.part is declared.
        """
        part = self.exo_part
        if part != "whole":
            crop = (
                "hflip"
                if part == "mirrored"
                else f"crop=iw/2:ih:{'0' if part == 'left' else 'iw/2'}:0"
            )
            raise EgoXInputError(
                f"exo.part of {what}",
                got=part,
                expected="a video that shows the exo camera's picture",
                fix=f"write one with ffmpeg's filter {crop}, and leave exo.part out",
            )

    @property
    def by_name(self) -> dict[str, Declaration]:
        """Declarations by the name of their fact."""
        return dict(self.declarations)

    def __bool__(self) -> bool:
        """Check whether anything is declared."""
        return bool(self.declarations)

    def value(self, name: str) -> Any:
        """Return the declared value of a fact, or None."""
        found = self.by_name.get(name)
        return None if found is None else found.value

    def rows(self, *names: str) -> tuple[FactRow, ...]:
        """Record those of some facts that are declared."""
        declarations = self.by_name
        return tuple(declarations[name].row(name) for name in names if name in declarations)

    def argument_value(self, name: str) -> Any:
        """Return the declared value of a fact with an argument of its own, or its default."""
        value = self.value(name)
        return ARGUMENTS[name.partition(".")[2]][1] if value is None else value

    def with_arguments(self, values: Mapping[str, object]) -> Declared:
        """Add facts that arguments of their own declare, those at their default left out.

        Raises:
            EgoXInputError: no such value, or another one than that which the caller declared.
        """
        declared = self
        for name, value in values.items():
            argument, default = ARGUMENTS[name.partition(".")[2]]
            own_value = self.argument.value(name)
            if value == default:
                continue
            own = Declared.of({name: value}, f"argument {argument}")
            if own_value is None:
                declared = own.over(declared)
            elif not FACTS[name].same(own_value, own.value(name)):
                raise EgoXInputError(
                    f"{name} and {argument}",
                    got=f"{own_value} ({ARGUMENT}) and {value} ({argument})",
                    expected="one value",
                    fix=f"leave {argument} at {default}, or {name} out",
                )
        return declared

    @property
    def argument(self) -> Declared:
        """Select what a caller declared, without what files declare of themselves."""
        return Declared(
            declarations=tuple(entry for entry in self.declarations if entry[1].by == ARGUMENT)
        )

    def over(self, other: Declared) -> Declared:
        """Add what another way declares, before which what this one declares goes."""
        declarations = other.by_name | self.by_name
        for name in other.by_name.keys() & self.by_name.keys():
            own, (value, by, more) = declarations[name], other.by_name[name]
            others = [*own.overruled, (value, by), *more]
            overruled = (opinion for opinion in others if opinion[1] != own.by)
            declarations[name] = own._replace(overruled=tuple(dict.fromkeys(overruled)))
        return Declared(declarations=tuple(declarations.items()))

    def part(self, prefix: str | tuple[str, ...]) -> Declared:
        """Select the facts whose names begin with a prefix, such as ``depth.``."""
        return Declared(
            declarations=tuple(entry for entry in self.declarations if entry[0].startswith(prefix))
        )

    def without(self, fact: str) -> Declared:
        """Leave a fact out."""
        return Declared(
            declarations=tuple(entry for entry in self.declarations if entry[0] != fact)
        )

    def _check_own(self, own: tuple[str, ...]) -> None:
        other_facts = [name for name, _ in self.declarations if own and not name.startswith(own)]
        # The picture's part is the video's, and neither a file's of maps nor of poses.
        if own and "exo.part" not in own and "exo.part" in self.by_name:
            other_facts.append("exo.part")
        if other_facts:
            is_part_taken = "exo.part" in own
            taken = [
                name
                for name in FACTS
                if name.startswith(own) and (name != "exo.part" or is_part_taken)
            ]
            raise EgoXInputError(
                f"declared {', '.join(other_facts)}",
                got="facts of another file",
                expected=f"some of {', '.join(taken)}",
                fix="declare it where that file is read, or under declared in meta.json",
            )

    def check_applied(self, rows: Iterable[FactRow], what: str) -> None:
        """Refuse declarations that none of the rows of what was made shows as applied.

        Raises:
            EgoXInputError: names their facts.
        """
        applied_facts = {(row.fact, row.by) for row in rows}
        unused_facts = [
            name
            for name, declaration in self.declarations
            if (name, declaration.by) not in applied_facts
        ]
        if unused_facts:
            raise EgoXInputError(
                f"declared {', '.join(unused_facts)}",
                got=f"a fact that {what} have no use for",
                expected="facts that the source leaves open",
                fix=f"leave {', '.join(unused_facts)} out, or declare it where the file is read "
                "(read_meta of a meta.json)",
            )


NOTHING_DECLARED = Declared()


def _split_text(text: str, by: str) -> dict[str, object]:
    """Split a text into facts and values.

    Raises:
        EgoXInputError: a part without an equals sign, a fact twice.
    """
    values: dict[str, object] = {}
    for line in filter(None, map(str.strip, _SEPARATOR.split(text))):
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not value or name in values:
            raise EgoXInputError(
                by,
                got=repr(line) + (" a second time" if name in values else ""),
                expected="FACT=VALUE, one per line, such as depth.unit=cm",
                fix=f"the facts are {', '.join(FACTS)}",
            )
        values[name] = value
    return values
