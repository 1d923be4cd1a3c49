"""Lock an output file as another process would."""

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from egox_core.progress import Progress
from egox_core.safe_files import file_lock


@contextmanager
def locked_by_other_process(made: Path, others: int) -> Generator[Progress]:
    """Lock an output file as another process would, and yield a progress callback that unlocks it.

    What it has half written stays till then.
    """
    progress_calls, name = [], made.stem
    with ExitStack() as foreign_locks:
        foreign_locks.enter_context(file_lock(made.with_name(name)))
        unfinished_file = made.with_name(f".{name}.0123abcd{made.suffix}")
        unfinished_file.touch()

        def progress(done: int, total: int, stage: str) -> None:
            progress_calls.append((done, made.exists()))
            if done == others:
                unfinished_file.unlink()  # and not before: nobody takes it from the other process
                foreign_locks.close()

        yield progress
    assert progress_calls == [(n, n > others) for n in range(1, others + 2)]
