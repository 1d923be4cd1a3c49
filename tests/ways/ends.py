"""Check what a way has to lead to."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from .walk import Walk


@dataclass(frozen=True)
class End:
    """Hold one thing that must be there at the end of a way, and how it is checked."""

    kind: str
    check: Callable[[Walk], Any]


def ends_with(code: int) -> End:
    """Expect the exit code of the last command."""

    def check(walk: Walk) -> None:
        assert walk.code == code, f"ended with {walk.code}: {walk.said[-2000:]}"

    return End(f"code {code}", check)


def says(*words: str) -> End:
    """Expect words in what a command printed, or in what nodes or the server answered."""

    def check(walk: Walk) -> None:
        for word in words:
            assert word in walk.said, f"no {word!r} in: {walk.said[-3000:]}"

    return End("says", check)


def says_nothing_of(*words: str) -> End:
    """Expect that words aren't told."""

    def check(walk: Walk) -> None:
        for word in words:
            assert word not in walk.said, walk.said[-2000:]

    return End("says nothing of", check)


def names_no_path() -> End:
    """Expect that no path is told."""

    def check(walk: Walk) -> None:
        assert not re.search(r"\w[\\/]\w", walk.said), walk.said

    return End("names no path", check)


def video(name: str, frames: int, width: int, height: int) -> End:
    """Expect a video file of so many frames of a size, not of one colour."""

    def check(walk: Walk) -> None:
        with av.open(str(walk.folder / name)) as container:
            pictures = np.stack(
                [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
            )
        assert pictures.shape == (frames, height, width, 3), (name, pictures.shape)
        assert pictures.std() > 3, f"{name} has one flat colour"

    return End(f"video {name}", check)


def files(pattern: str, count: int) -> End:
    """Expect so many files."""

    def check(walk: Walk) -> None:
        found = sorted(path.name for path in walk.folder.glob(pattern))
        assert len(found) == count, (pattern, found)

    return End(f"files {pattern}", check)


def saves(name: str, frames: int, width: int = 0, height: int = 0) -> End:
    """Expect that a run of a graph saved a video of so many frames, not of one colour."""

    def check(walk: Walk) -> None:
        pictures = walk.read_saved(name)
        assert len(pictures) == frames and pictures.std() > 3, (name, pictures.shape)
        assert not width or pictures.shape[1:3] == (height, width), pictures.shape

    return End(f"saves {name}", check)


def runs(*node_types: str) -> End:
    """Expect that nodes of these types ran."""

    def check(walk: Walk) -> None:
        assert set(node_types) <= walk.executed_types, walk.executed_types

    return End("runs", check)


def leaves_out(*node_types: str) -> End:
    """Expect that no node of these types ran."""

    def check(walk: Walk) -> None:
        assert not set(node_types) & walk.executed_types, walk.executed_types

    return End("leaves out", check)


def runs_nothing() -> End:
    """Expect that no node of the last run had anything to do."""

    def check(walk: Walk) -> None:
        assert walk.outputs and not walk.executed_types, walk.executed_types

    return End("runs nothing", check)


def shows(node_type: str) -> End:
    """Expect that a node of this type showed its result, though others were refused."""

    def check(walk: Walk) -> None:
        shown_types = {walk.prompt[node_id]["class_type"] for node_id in walk.outputs}
        assert node_type in shown_types, (shown_types, walk.said)

    return End(f"shows {node_type}", check)


def refuses(*node_types: str) -> End:
    """Expect that the server refuses nodes of these types, and of no other, before a run."""

    def check(walk: Walk) -> None:
        assert walk.refused_types == set(node_types), (walk.refused_types, walk.said)

    return End("refuses", check)


def stops(node_type: str) -> End:
    """Expect that a node of this type stops the run, with a message."""

    def check(walk: Walk) -> None:
        assert walk.stopped_type == node_type, (walk.stopped_type, walk.said)

    return End("stops", check)


def spends(most_s: float) -> End:
    """Expect so many CPU seconds of the last command at most."""

    def check(walk: Walk) -> None:
        assert walk.cpu_s <= most_s, f"{walk.cpu_s:.1f} CPU s"

    return End("spends", check)
