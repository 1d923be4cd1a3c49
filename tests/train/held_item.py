"""Hold one item of a folder as another process would."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from egox_core.progress import Progress
from egox_core.safe_files import file_lock


@contextmanager
def another_is_at(made: Path, others: int) -> Generator[Progress]:
    """Hold a file as another process would, and yield a progress callback that releases it.

    What it has half written stays till then.
    """
    counts, name = [], made.stem
    with ExitStack() as theirs:
        theirs.enter_context(file_lock(made.with_name(name)))
        unfinished = made.with_name(f".{name}.0123abcd{made.suffix}")
        unfinished.touch()

        def progress(done: int, total: int, stage: str) -> None:
            counts.append((done, made.exists()))
            if done == others:
                unfinished.unlink()  # and not before: nobody takes it from the other process
                theirs.close()

        yield progress
    assert counts == [(n, n > others) for n in range(1, others + 2)]
