"""Speed of the torch splatter beside PyTorch3D, and the difference of their pictures.

    python3 run.py bench splat [--save]

One cloud of 351,232 points (every pixel of a 784x448 exo picture of a room of planes and boxes), drawn at 448x448 by a
fisheye and a pinhole camera that stand beside the exo camera. Times are those of the splatter alone, from projected
points to the picture, after one warm-up; PyTorch3D's rasteriser, which tests every point at every pixel on the CPU,
is warmed up with a small cloud and measured once. Where PyTorch3D is missing its rows say so. To be run again after a
change of the splatter, by whoever has PyTorch3D or a GPU; ``tests/core/prior`` hold it to its plain twin.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from torch import Tensor

from benchmarks.support.record import bench_parser, finish
from egox_core.cameras.model import CameraModel
from egox_core.cameras.presets import preset_camera
from egox_core.errors import EgoXInputError
from egox_core.prior.drawing import screen_points
from egox_core.prior.options import PriorOptions, prior_preset
from egox_core.prior.splat_points import ScreenPoints, SplatImage
from egox_core.prior.splatter import has_pytorch3d, splat
from egox_core.scene.surface import depth_rays, lift
from egox_core.types import PointSet
from lab.drawn.depth_cases import room_depth

HEIGHT, WIDTH = 448, 784
SPEED_BAR = 150.0  # times faster than PyTorch3D on the CPU
PSNR_BAR_DB = 25.0
GPU_FRAMES = 49
GPU_SECONDS_BAR = 1.0


def bench_cloud(device: str = "cpu") -> PointSet:
    """351,232 points: a room with a texture of 2 to 16 px detail, stronger the larger, as in photographs."""
    generator = torch.Generator().manual_seed(7)
    depth_m = room_depth(HEIGHT, WIDTH, generator)
    exo = CameraModel(lens="pinhole", width=WIDTH, height=HEIGHT, fx=550.0, fy=550.0, cx=391.5, cy=223.5)
    sizes = (2, 4, 8, 16)
    texture = sum(s / sum(sizes) * torch.nn.functional.interpolate(
        torch.rand(1, 3, HEIGHT // s, WIDTH // s, generator=generator), (HEIGHT, WIDTH), mode="bilinear")
        for s in sizes)
    rgb = (texture[0] * 255).permute(1, 2, 0).to(torch.uint8)
    points = lift(depth_m, rgb, torch.isfinite(depth_m), depth_rays(exo))
    return PointSet(**{name: getattr(points, name).to(device) for name in PointSet.__slots__})


def ego_cameras() -> dict[str, tuple[CameraModel, Tensor]]:
    """Name -> (camera, ego_from_exo [3, 4]): half a metre aside and one forward, turned back by 10 degrees."""
    angle = torch.tensor(-10.0).deg2rad()
    turn = torch.tensor([[angle.cos(), 0, -angle.sin()], [0, 1, 0], [angle.sin(), 0, angle.cos()]], dtype=torch.float64)
    views = {}
    for name in ("aria_released", "pinhole"):
        camera = preset_camera(name, HEIGHT)
        # The sensor is mounted a quarter turn off: its pose turns it back.
        upright = torch.tensor([[0, 1, 0], [-1, 0, 0], [0, 0, 1]] if camera.quarter_turns == 1
                               else [[1, 0, 0], [0, 1, 0], [0, 0, 1]], dtype=torch.float64)
        rotation = upright @ turn
        centre = torch.tensor([0.5, 0.1, 1.0], dtype=torch.float64)
        views[name] = (camera, torch.cat((rotation, -(rotation @ centre)[:, None]), dim=1))
    return views


def timed(work, repeat: int = 1) -> tuple[SplatImage, float]:
    """(the last result, mean seconds)."""
    _sync()
    start = time.perf_counter()
    for _ in range(repeat):
        result = work()
    _sync()
    return result, (time.perf_counter() - start) / repeat


def _sync() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def psnr_db(image: SplatImage, reference: SplatImage) -> float:
    """On pixels that both cover."""
    both = image.coverage & reference.coverage
    return float(-10 * torch.log10((image.rgb - reference.rgb)[both].square().mean()))


def measure_view(name: str, points: PointSet, camera: CameraModel, pose: Tensor) -> dict:
    """All figures of one camera on the CPU."""
    width, height = camera.stored_size
    row: dict = {"camera": name, "points": len(points)}
    composite, surface = (replace(prior_preset(p), max_edge=100.0) for p in ("released", "clean"))
    screens = {"released": (screen_points(points, camera, pose, composite), composite.splat),
               "clean": (screen_points(points, camera, pose, surface), surface.splat)}
    drawn: dict[str, SplatImage] = {}
    for preset, (screen, options) in screens.items():
        timed(lambda s=screen, o=options: splat(s, width, height, o))
        drawn[preset], row[f"torch_{preset}_s"] = timed(lambda s=screen, o=options: splat(s, width, height, o), 3)
    row["points_in_view"] = len(screens["released"][0])
    row["pytorch3d"] = pytorch3d_row(screens["released"][0], composite, drawn["released"], width, height)
    if isinstance(row["pytorch3d"], dict):
        row["times_faster"] = row["pytorch3d"]["seconds"] / row["torch_released_s"]
    return row


def pytorch3d_row(screen: ScreenPoints, options: PriorOptions, drawn: SplatImage, width: int, height: int):
    """Its time and likeness, or why there are none."""
    if not has_pytorch3d():
        return "missing: not installed"
    few = ScreenPoints(**{name: getattr(screen, name)[:1000] for name in ScreenPoints.__slots__})
    try:
        splat(few, width, height, options.splat, backend="pytorch3d")
    except EgoXInputError as error:
        return f"missing: {error}"
    image, seconds = timed(lambda: splat(screen, width, height, options.splat, backend="pytorch3d"))
    return {"seconds": seconds, "psnr_db": psnr_db(drawn, image)}


def gpu_rows(device: str = "cuda") -> list[dict]:
    """49 frames on a GPU, and PyTorch3D's own GPU rasteriser beside it."""
    points = bench_cloud(device)
    rows = []
    for name, (camera, pose) in ego_cameras().items():
        width, height = camera.stored_size
        for preset in ("released", "clean"):
            options = replace(prior_preset(preset), max_edge=100.0)
            screen = screen_points(points, camera, pose.to(device), options)
            splat(screen, width, height, options.splat)
            _, seconds = timed(lambda s=screen, o=options, w=width, h=height: splat(s, w, h, o.splat), GPU_FRAMES)
            row = {"camera": name, "preset": preset, "frames": GPU_FRAMES, "seconds": seconds * GPU_FRAMES}
            if preset == "released":
                row["pytorch3d"] = pytorch3d_row(screen, options, splat(screen, width, height, options.splat), width,
                                                 height)
            rows.append(row)
    return rows


def failures(rows: list[dict], gpu: list[dict]) -> list[str]:
    """Bars that do not hold; a comparison that could not be made is no failure, the table says so."""
    failed = []
    for row in rows:
        name = row["camera"]
        if "times_faster" in row:
            if not row["times_faster"] >= SPEED_BAR:
                failed.append(f"{name}: {row['times_faster']:.0f} times faster than pytorch3d, bar {SPEED_BAR:.0f}")
            if not row["pytorch3d"]["psnr_db"] >= PSNR_BAR_DB:
                failed.append(f"{name}: {row['pytorch3d']['psnr_db']:.1f} dB to pytorch3d, bar {PSNR_BAR_DB:.0f}")
    failed += [f"GPU, {row['camera']}, {row['preset']}: {row['seconds']:.2f} s for {GPU_FRAMES} frames, bar "
               f"{GPU_SECONDS_BAR} s" for row in gpu if not row["seconds"] < GPU_SECONDS_BAR]
    return failed


def table(rows: list[dict], gpu: list[dict]) -> str:
    lines = []
    for row in rows:
        lines.append(f"{row['camera']}: {row['points_in_view']:,} of {row['points']:,} points in view; torch released "
                     f"{row['torch_released_s']:.3f} s, clean {row['torch_clean_s']:.3f} s")
        other = row["pytorch3d"]
        lines.append(f"  pytorch3d {other}" if isinstance(other, str) else
                     f"  pytorch3d {other['seconds']:.1f} s: torch is {row['times_faster']:.0f} times faster; "
                     f"{other['psnr_db']:.1f} dB alike")
    for row in gpu:
        lines.append(f"GPU {row['camera']} {row['preset']}: {GPU_FRAMES} frames in {row['seconds']:.3f} s; pytorch3d "
                     f"{row.get('pytorch3d', 'has no such style')}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = bench_parser(__doc__)
    args = parser.parse_args(arguments)
    points = bench_cloud()
    rows = [measure_view(name, points, camera, pose) for name, (camera, pose) in ego_cameras().items()]
    gpu = gpu_rows() if torch.cuda.is_available() else []
    failed = failures(rows, gpu)
    text = table(rows, gpu) + "\n" + ("\n".join(failed) or "all bars that could be measured hold")
    return finish("splat", {"cameras": rows, "gpu": gpu, "failed": failed}, args, text, not failed)


if __name__ == "__main__":
    raise SystemExit(main())
