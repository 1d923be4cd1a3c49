"""Point splatting: one signature, three backends.

``reference`` is plain loops, which the others are tested against; ``torch`` is vectorised, on CPU
or CUDA, and the default; ``pytorch3d`` is that package's rasteriser, used only where asked for and
installed.

Two styles. ``composite`` is what the released priors were drawn with: discs of one radius, fading
towards their rim, the nearest 20 laid over each other front to back. ``surface`` takes each point
as a patch of the surface it was sampled from: the patch's projection is a parallelogram that
reaches halfway to the neighbouring samples, so that a near floor has no gaps between its points and
a far wall is not blurred; what is behind the front surface is hidden. Its colour is interpolated
between the samples around, as a picture's is between its pixels: patches of one colour each would
make every edge of a patch an edge of the picture, which crawls as the camera moves."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from ..errors import EgoXInputError
from .splat_points import Backend, ScreenPoints, SplatImage, SplatOptions

Splatter = Callable[[ScreenPoints, int, int, SplatOptions], SplatImage]


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
        EgoXInputError: unknown backend, pytorch3d asked for but missing, or asked for the style
            that it lacks.
    """
    return splatter(backend)(points, width, height, options or SplatOptions())


def splatter(backend: Backend) -> Splatter:
    """The function behind a backend's name; see :func:`splat`."""
    if backend == "torch":
        from .splat_torch import splat_torch

        return splat_torch
    if backend == "reference":
        from .splat_reference import splat_reference

        return splat_reference
    if backend == "pytorch3d":
        if not has_pytorch3d():
            raise EgoXInputError(
                "splat backend",
                got="pytorch3d, which is not installed",
                expected="torch",
                fix="choose backend torch, or install the package easypytorch3d that fits your torch",
            )
        from .splat_pytorch3d import splat_pytorch3d

        return splat_pytorch3d
    raise EgoXInputError(
        "splat backend",
        got=repr(backend),
        expected="torch, reference or pytorch3d",
        fix="choose one of them",
    )


def has_pytorch3d() -> bool:
    """Check whether PyTorch3D can be imported (its extension is tried only on use)."""
    return find_spec("pytorch3d") is not None
