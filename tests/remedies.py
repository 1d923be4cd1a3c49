"""Follow the remedies that refusals and warnings name, and list those that the code has.

A remedy is data here: the words that name it, and the argument, fact, flag or input that they set.
"""

import ast
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from egox_core.facts.table import FACTS
from egox_core.remarks import facts_text
from tests.paths import ROOT

OUT = object()
"""Value of an argument that is left out."""
Given = Mapping[str, Any]

NAMED = re.compile(
    "|".join(
        (
            r"(?<![\w`])--[a-z{]",
            r"\bset (?:\S+ ){1,3}to\b",
            r"\b(?:leave|keep) \S+ (?:at|out)\b",
            r"\b(?:switch|turn) (?!is)\S+ off",
            r"\bdeclare (?!it where that)",
            r"\bset [\w.]+=|\bconnect '",
            r"\b(?:use|(?<!data )set) (?:frame_count )?\{",
            rf"\b(?:{'|'.join(map(re.escape, FACTS))})=",
            r"\b(?:give|add|set|delete) [\"']?[a-z]+_[a-z_]+\b(?!\.)",
        )
    )
)
"""Pattern of a text that says what to do by an argument, a fact, a flag or a value."""


@dataclass(frozen=True)
class Advice:
    """Hold a text of the code that names a remedy, with braces for what is put in."""

    site: str  # file:function, or the file alone for a constant
    text: str
    line: int

    def is_in(self, message: str) -> bool:
        """Check whether a message has this text."""
        return re.search(re.escape(self.text).replace(r"\{\}", ".*?"), message, re.S) is not None


@dataclass(frozen=True)
class Remedies:
    """Hold one refusal or warning, how it comes about, and what each remedy of it changes."""

    site: str
    door: Callable[..., object]
    given: Given  # a function among its values writes what it returns into a folder
    changes: Mapping[str, Given]  # by the words that name them
    later: str = ""  # words of another refusal, which is right where a remedy has been followed

    def follow(self, folder: Path) -> None:
        """Meet the message, then follow each remedy literally, after which it doesn't come."""
        given = self.given
        message, is_refused = _message_of(self.door, given, folder)
        assert any(advice.is_in(message) for advice in advice_of(self.site)), (self.site, message)
        for words, change in self.changes.items():
            assert words in message, (words, message)
            for name, value in change.items():
                assert name.strip("-") in words or str(value) in words, (name, words)
            after, still_refused = _message_of(self.door, changed(given, change), folder)
            assert not (is_refused and still_refused) or (self.later and self.later in after), after
            assert words not in after, after


def changed(given: Given, change: Given) -> dict[str, Any]:
    """Change arguments, and declare what is a fact by its name."""
    arguments, facts = dict(given), dict(given.get("declared", {}))
    arguments.pop("declared", None)
    for name, value in change.items():
        target = facts if name in FACTS else arguments
        target[name] = value
        if value is OUT:
            del target[name]
    return arguments | ({"declared": facts} if facts else {})


def _message_of(door: Callable[..., object], given: Given, folder: Path) -> tuple[str, bool]:
    """Return what a door says of what it is given, and whether it refuses it."""
    arguments = {name: value(folder) if callable(value) else value for name, value in given.items()}
    try:
        return _text(door(**arguments)), False
    except Exception as error:
        if "EgoXInputError" not in {kind.__name__ for kind in type(error).__mro__}:
            raise
        return (
            f"{error}\n{getattr(error, 'fix', '')}",
            True,
        )  # the latter without the nodes' own words


def _text(result: object) -> str:
    if isinstance(result, str):
        return result
    if isinstance(result, tuple | list):
        return "\n".join(map(_text, result))
    facts = facts_text(getattr(result, "facts", ()))
    notes = "\n".join(map(str, getattr(result, "notes", ())))
    return f"{facts}\n{notes}\n{getattr(result, 'placed', '')}"


def advice_of(site: str) -> list[Advice]:
    """List the texts of one place in the code that name a remedy."""
    return [
        advice for advice in _advice_of_file(ROOT / site.partition(":")[0]) if advice.site == site
    ]


def all_advice(folder: str) -> list[Advice]:
    """List all texts of a folder's code that name a remedy."""
    return [
        advice for file in sorted((ROOT / folder).rglob("*.py")) for advice in _advice_of_file(file)
    ]


def unfollowed(folder: str, rows: Sequence[Any], others: Mapping[str, str]) -> list[str]:
    """List the texts of a folder's code that name a remedy which nothing follows.

    Args:
        rows: pytest's parameters, each with its remedies.
        others: places without a row, each with the test that follows them, or the reason.
    """
    texts: dict[str, list[str]] = {}
    for advice in all_advice(folder):
        texts.setdefault(advice.site, []).append(advice.text)
    followed = set()
    for remedies in (row.values[0] for row in rows):
        for words in remedies.changes:
            shared = {text: _shared_length(text, words) for text in texts.get(remedies.site, ())}
            most = max(shared.values(), default=0)
            # A letter or two may be shared by chance.
            followed |= {(remedies.site, text) for text in shared if shared[text] == most > 3}
    lost = [site for site, test in others.items() if site not in texts or not _is_there(test)]
    return lost + [
        f"{site}: {text}"
        for site, site_texts in texts.items()
        for text in site_texts
        if site not in others and (site, text) not in followed
    ]


def _is_there(test: str) -> bool:
    """Check that a test of this name is there, or that it is the words of a reason."""
    file, _, name = test.partition("::")
    return not name or f"def {name}(" in (ROOT / file).read_text("utf-8")


def _shared_length(text: str, words: str) -> int:
    """Count the letters that words have of a text's own, where what is put in may be anything.

    They may begin within it and go on behind it.
    """
    tokens = [letter for part in text.split("{}") for letter in (*part, "")][:-1]
    shared, longest = dict.fromkeys(range(len(tokens)), 0), 0
    for letter in words:
        after: dict[int, int] = {}
        for at, count in shared.items():
            while at < len(tokens) and not tokens[at]:
                after[at] = max(after.get(at, 0), count)
                at += 1
            if at < len(tokens) and tokens[at] == letter:
                after[at + 1] = max(after.get(at + 1, 0), count + 1)
        shared, longest = after, max(longest, after.get(len(tokens), 0))
    return max(longest, *shared.values(), 0)


def _advice_of_file(file: Path) -> list[Advice]:
    name = file.relative_to(ROOT).as_posix()
    return list(_texts_that_advise(ast.parse(file.read_text("utf-8")), name, ""))


def _texts_that_advise(node: ast.AST, file: str, function: str) -> Iterator[Advice]:
    text = _template(node)
    if text is not None:
        if " " in text and NAMED.search(text):
            yield Advice(f"{file}:{function}" if function else file, text, node.lineno)  # ty: ignore[missing-attribute]
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        arguments = getattr(node, "args", None)
        first_argument = arguments.args[:1] if arguments else []
        if node.name == "define_schema" or "parser" in {each.arg for each in first_argument}:
            return
        function = f"{function}.{node.name}" if function else node.name
    children = ast.iter_child_nodes(node)
    if isinstance(node, ast.Call):
        if DESCRIBES.search(ast.unparse(node.func)):
            return
        told = [
            keyword for keyword in node.keywords if keyword.arg not in ("got", "expected", "help")
        ]
        children = [node.func, *node.args, *told]
    for child in children:
        yield from _texts_that_advise(child, file, function)


DESCRIBES = re.compile(
    r"\.add_|ArgumentParser|\.(Input|Output|Schema|compile)$|^(argument|declare_option|Command|Metric)$"
)
"""Calls whose texts describe what there is to set, and don't say when to set it."""


def _template(node: ast.AST) -> str | None:
    """Return the text of a string or an f-string with braces for what is put in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) or "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _template(node.left), _template(node.right)
        return None if left is None and right is None else f"{left or '{}'}{right or '{}'}"
    return None
