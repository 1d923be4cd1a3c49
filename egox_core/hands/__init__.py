"""A wearer's hands: 21 joints each, whether they can be believed, the wrists' turn, file, picture.

In: joints in metres in the exo camera's axes, from a body model or from ``hands.json``. Out:
:class:`HandTrack`, and from it the same in the world's or the head's axes.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
