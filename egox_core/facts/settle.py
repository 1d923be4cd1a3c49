"""Settle a fact: the user's word first, then the sources in the order of the table."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..remarks import FactRow
from .declared import NOTHING_DECLARED, Declared
from .table import FACTS


class Statement(NamedTuple):
    """Value of one fact that one source states."""

    fact: str
    value: Any  # None: it says nothing
    by: str  # names the source in rows: "transforms.json", "name of the array depth_mm"
    source: str = "file"  # its kind, as in the fact's order of sources


def settle(
    fact: str,
    stated: Sequence[Statement],
    declared: Declared = NOTHING_DECLARED,
    default: Any = None,
    default_by: str = "default",
    advice: str = "",
) -> tuple[Any, FactRow]:
    """Choose the value of a fact, and record who gave it and who said otherwise.

    ``advice`` is a default's own, and stands in the row only where nobody says anything.
    """
    description = FACTS[fact]
    declaration = declared.by_name.get(fact)
    statements = sorted(
        (entry for entry in stated if entry.fact == fact and entry.value is not None),
        key=lambda statement: description.sources.index(statement.source),
    )
    opinions: list[tuple[Any, str]] = []
    if declaration is not None:
        opinions = [(declaration.value, declaration.by), *declaration.overruled]
    opinions += [(statement.value, statement.by) for statement in statements]
    value, by = opinions[0] if opinions else (default, default_by)
    form_by = next((statement.by for statement in stated if statement.source == "form"), "")
    others = tuple(
        f"{description.show(other)} ({other_by})"
        for other, other_by in opinions[1:]
        if not description.same(other, value)
    )
    row = FactRow(
        fact=fact,
        value="not stated" if value is None else description.show(value),
        by=by,
        others=others,
        # What a form alone tells, such as a picture of 16 bits, is a guess as well.
        advice="" if opinions and by != form_by else advice,
    )
    return value, row
