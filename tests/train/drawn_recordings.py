"""Recordings of drawn scenes as somebody films them: two files with clocks of their own, sounds that
have places, a room's echo, codecs."""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.signal import fftconvolve

from egox_core.cameras import camera_centre
from egox_core.safe_files import write_json
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from lab.drawn.detected import network_points, openpose_content, seen_person
from lab.drawn.layout import draw_layout

RATE, SOUND = 48000, 343.0
SOUNDS = {"aac": ".mp4", "libopus": ".mkv", "pcm_s16le": ".mov", "libmp3lame": ".mkv"}
"""Codecs of sound, and the container that each is in."""


@dataclass(frozen=True, kw_only=True)
class Filmed:
    """The making of two files, and what is true of them."""

    seed: int
    seconds: float = 15.0
    fps: int = 8
    late_frames: int = 0  # that ego begins after exo (negative: before)
    drift: float = 0.0  # of ego's clock against exo's
    codecs: tuple[str, str] = ("aac", "aac")
    sound: bool = True
    strangers: bool = False  # two files of different moments
    texture: str = "papered"
    turning_deg: float = 60.0
    motion: float = 1.0
    exo_side: str = "front"
    size: tuple[int, int, int] = (320, 192, 192)
    keypoints: bool = False
    depth_scale: float = 0.0  # of exo's depth, against the truth; 0: none is there

    @property
    def offset_s(self) -> float:
        """Seconds that a moment is later in ego than in exo, at exo's beginning."""
        return -self.late_frames / self.fps

    def take(self) -> SyntheticTake:
        """Draw it."""
        return make_take(self.spec())

    def spec(self) -> SyntheticSpec:
        """Describe the drawn scene."""
        return SyntheticSpec(
            seed=self.seed,
            frames=round(self.seconds * self.fps),
            fps=float(self.fps),
            exo_width=self.size[0],
            exo_height=self.size[1],
            ego_size=self.size[2],
            texture=self.texture,
            turning_deg=self.turning_deg,
            motion=self.motion,
            exo_side=self.exo_side,
            edge_samples=1,
        )


def write_recording(
    filmed: Filmed, folder: Path, take: SyntheticTake | None = None
) -> SyntheticTake:
    """Write ego and exo, and key points if wanted, and return the uncut drawn take."""
    take = take or filmed.take()
    folder.mkdir(parents=True, exist_ok=True)
    first = {"exo": max(0, -filmed.late_frames), "ego": max(0, filmed.late_frames)}
    sounds = room_sound(filmed, take) if filmed.sound else {}
    for (name, frames), codec in zip(
        (("exo", take.exo_rgb), ("ego", take.ego_rgb)), filmed.codecs, strict=True
    ):
        drift = filmed.drift if name == "ego" else 0.0
        heard = None
        if filmed.sound:
            heard = sounds[name][round(first[name] / filmed.fps * (1 + drift) * RATE) :]
        pictures = frames[first[name] :].numpy()
        write_film(folder / f"{name}{SOUNDS[codec]}", pictures, filmed.fps, heard, codec)
    if filmed.depth_scale:
        depth = (take.exo_depth_m * filmed.depth_scale)[first["exo"] :]
        np.savez_compressed(folder / "exo_depth.npz", depth_m=depth.half().numpy())
    if filmed.keypoints:
        person = seen_person(draw_layout(filmed.spec()))
        rng = np.random.default_rng([filmed.seed, 77])
        uv, scores = network_points(person, take.exo.camera, rng)
        people = [[each] for each in zip(uv, scores, strict=True)]
        content = openpose_content(people, filmed.size[:2])[first["exo"] :]
        write_json(folder / "exo_keypoints.json", content)
    return take


def room_sound(filmed: Filmed, take: SyntheticTake) -> dict[str, np.ndarray]:
    """Compute what each camera hears from the drawn take's first moment on: a voice and knocks at
    places, with an echo, and something else beside each camera."""
    rng = np.random.default_rng([filmed.seed, 99])
    count = round((filmed.seconds + 1) * RATE)
    ego, exo = (camera_centre(path.w2c).mean(0).numpy() for path in (take.ego, take.exo))
    voice = _bursts(rng, count, 0.25, 0.5)
    knocks = _bursts(rng, count, 0.02, 0.3)
    places = [ego + rng.normal(size=3) * 0.1, ego + rng.normal(size=3) * 1.0]
    heard = {}
    for name, place in (("exo", exo), ("ego", ego)):
        sound = np.zeros(count)
        for source, where in zip((voice, knocks), places, strict=True):
            far = max(float(np.linalg.norm(where - place)), 0.2)
            sound += fftconvolve(source, _echo(rng, far), mode="full")[:count] / far
        other = _bursts(rng, count, 0.3, 0.4)
        sound += 0.4 * other * np.std(sound) / max(np.std(other), 1e-9)
        sound += 0.02 * np.std(sound) * rng.normal(size=count)
        if filmed.strangers and name == "ego":
            sound = _bursts(rng, count, 0.25, 0.5)
        heard[name] = 0.2 * sound / max(np.abs(sound).max(), 1e-9)
    times = np.arange(count) / (1 + filmed.drift)
    heard["ego"] = np.interp(times, np.arange(count), heard["ego"])
    return heard


def _bursts(rng: np.random.Generator, count: int, length_s: float, share: float) -> np.ndarray:
    sound = np.zeros(count)
    for _ in range(round(share * count / RATE / length_s)):
        size = max(round(length_s * rng.uniform(0.5, 1.5) * RATE), 32)
        begin = int(rng.integers(max(count - size, 1)))
        noise = np.convolve(rng.normal(size=size), np.ones(int(rng.integers(2, 12))), "same")
        sound[begin : begin + size] += noise * np.hanning(size) * rng.uniform(0.3, 1.0)
    return sound


def _echo(rng: np.random.Generator, far_m: float) -> np.ndarray:
    """Draw a room's answer over 0.4 s, after the direct sound's own way."""
    way = far_m / SOUND * RATE
    tail = rng.normal(size=round(0.4 * RATE)) * 10 ** (
        -3 * np.arange(round(0.4 * RATE)) / (0.5 * RATE)
    )
    answer = np.zeros(round(way) + len(tail) + 2)
    low = int(way)
    answer[low], answer[low + 1] = 1 - (way - low), way - low
    answer[low + 200 : low + len(tail)] += 0.03 * tail[: len(tail) - 200] * min(far_m, 3.0)
    return answer


def write_film(
    file: Path, pictures: np.ndarray, fps: int, sound: np.ndarray | None, codec: str
) -> None:
    """Write a video [T, H, W, 3] with its sound [N] at RATE."""
    with av.open(str(file), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "16"})
        video.height, video.width = pictures.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio = None if sound is None else container.add_stream(codec, rate=RATE, layout="mono")
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            sound = sound[: round(len(pictures) / fps * RATE)]
            samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
            step = 960
            for begin in range(0, len(samples) - step, step):
                frame = av.AudioFrame.from_ndarray(
                    samples[None, begin : begin + step], format="s16", layout="mono"
                )
                frame.sample_rate, frame.pts, frame.time_base = RATE, begin, Fraction(1, RATE)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))


def moved(take: SyntheticTake, **changes) -> SyntheticTake:
    """Copy the take with other fields."""
    return replace(take, **changes)
