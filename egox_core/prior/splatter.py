"""Point splatting: one signature, two backends.

``reference`` is plain loops, which the other is tested against; ``torch`` is vectorised, on CPU or
CUDA, and the default.

Two styles. ``composite`` is what the released priors were drawn with: discs of one radius, fading
towards their rim, the nearest 20 laid over each other front to back. ``surface`` takes each point
as a patch of the surface it was sampled from: the patch's projection is a parallelogram that
reaches halfway to the neighbouring samples, so that a near floor has no gaps between its points and
a far wall is not blurred; what is behind the front surface is hidden. Its colour is interpolated
between the samples around, as a picture's is between its pixels: patches of one colour each would
make every edge of a patch an edge of the picture, which crawls as the camera moves."""

from collections.abc import Callable, Mapping

from ..errors import check_choice
from .splat_points import Backend, ScreenPoints, SplatImage, SplatOptions
from .splat_reference import splat_reference
from .splat_torch import splat_torch

Splatter = Callable[[ScreenPoints, int, int, SplatOptions], SplatImage]
SPLATTERS: Mapping[Backend, Splatter] = {"torch": splat_torch, "reference": splat_reference}


def splat(
    points: ScreenPoints,
    width: int,
    height: int,
    options: SplatOptions | None = None,
    *,
    backend: Backend = "torch",
) -> SplatImage:
    """Draw points into a picture of ``width`` x ``height`` px; no points give a black picture.

    Raises:
        EgoXInputError: unknown backend.
    """
    return splatter(backend)(points, width, height, options or SplatOptions())


def splatter(backend: Backend) -> Splatter:
    """The function behind a backend's name; see :func:`splat`."""
    check_choice("splat backend", backend, SPLATTERS)
    return SPLATTERS[backend]
