"""Runs as episodes of a LeRobot v3 data set, which policies of robots learn from.

In: exo and ego video, head path, cameras and hands of one run. Out: :class:`.episode.Episode`, its
checks, and a folder that grows by one episode at a time. pyarrow is needed, lerobot isn't.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
