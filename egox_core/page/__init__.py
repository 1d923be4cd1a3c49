"""All that only the page asks for: pictures of payloads, the pose editor's clicks, uploads told apart.

In: maps and videos as tensors; a :class:`~egox_core.types.PointCloud`, a camera and a pixel; uploaded files. Out:
pictures [.., H, W, 3] (float 0...1, or uint8 where they are drawn for a file), JPEG sheets, legends as plain data,
points of the scene, a small prior of one pose. Knows no host.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .door import *
else:

    def __getattr__(name: str) -> object:
        """Open the door when the first name is asked for."""
        from .door import __getattribute__ as handed_out

        return handed_out(name)
