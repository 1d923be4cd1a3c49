"""Draw recordings of scenes with sound and unsynchronised clocks."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from scipy.signal import fftconvolve

from egox_core.cameras import camera_centre
from egox_core.safe_files import write_json
from lab.drawn import SyntheticSpec, SyntheticTake, make_take
from lab.drawn.detected import network_points, openpose_content, project_person
from lab.drawn.layout import draw_layout

SAMPLE_RATE_HZ, SPEED_OF_SOUND_M_S = 48000, 343.0
SUFFIX_BY_CODEC = {"aac": ".mp4", "libopus": ".mkv", "pcm_s16le": ".mov", "libmp3lame": ".mkv"}
"""Sound codecs, with the file suffix of each."""


@dataclass(frozen=True, kw_only=True)
class RecordingSpec:
    """Specification of a drawn recording: its video files, clocks, sounds and true cameras."""

    seed: int
    seconds: float
    late_frames: int  # that ego begins after exo (negative: before)
    size: tuple[int, int, int]  # width and height of exo, side of ego
    fps: int = 8

    @property
    def offset_s(self) -> float:
        """Seconds by which a moment is later in the ego file than in the exo file."""
        return -self.late_frames / self.fps

    def spec(self) -> SyntheticSpec:
        """Build the specification of the recorded scene."""
        return SyntheticSpec(
            seed=self.seed,
            frames=round(self.seconds * self.fps),
            fps=float(self.fps),
            exo_width=self.size[0],
            exo_height=self.size[1],
            ego_size=self.size[2],
            texture="papered",
            turning_deg=60.0,
            edge_samples=1,
        )


def write_recording(spec: RecordingSpec, folder: Path) -> SyntheticTake:
    """Write the files of a drawn recording (ego, exo, its depth and key points), and return the
    drawn take."""
    take = make_take(spec.spec())
    folder.mkdir(parents=True, exist_ok=True)
    first_frames = {"exo": max(0, -spec.late_frames), "ego": max(0, spec.late_frames)}
    sounds = room_sound(spec, take)
    for name, frames in (("exo", take.exo_rgb), ("ego", take.ego_rgb)):
        file_sound = sounds[name][round(first_frames[name] / spec.fps * SAMPLE_RATE_HZ) :]
        pictures = frames[first_frames[name] :].numpy()
        write_film(folder / f"{name}.mp4", pictures, spec.fps, file_sound, "aac")
    depth = take.exo_depth_m[first_frames["exo"] :]
    np.savez_compressed(folder / "exo_depth.npz", depth_m=depth.half().numpy())
    person = project_person(draw_layout(spec.spec()))
    rng = np.random.default_rng([spec.seed, 77])
    uv, scores = network_points(person, take.exo.camera, rng)
    people = [[person_points] for person_points in zip(uv, scores, strict=True)]
    keypoint_frames = openpose_content(people, spec.size[:2])[first_frames["exo"] :]
    write_json(folder / "exo_keypoints.json", keypoint_frames)
    return take


def room_sound(spec: RecordingSpec, take: SyntheticTake) -> dict[str, np.ndarray]:
    """Compute the sound that each camera records: voice, knocks, echoes and noise."""
    rng = np.random.default_rng([spec.seed, 99])
    sample_count = round((spec.seconds + 1) * SAMPLE_RATE_HZ)
    ego_position, exo_position = (
        camera_centre(path.w2c).mean(0).numpy() for path in (take.ego, take.exo)
    )
    voice = _bursts(rng, sample_count, 0.25, 0.5)
    knocks = _bursts(rng, sample_count, 0.02, 0.3)
    source_positions = [
        ego_position + rng.normal(size=3) * 0.1,
        ego_position + rng.normal(size=3) * 1.0,
    ]
    sound_by_camera = {}
    for name, camera_position in (("exo", exo_position), ("ego", ego_position)):
        sound = np.zeros(sample_count)
        for source, source_position in zip((voice, knocks), source_positions, strict=True):
            distance_m = max(float(np.linalg.norm(source_position - camera_position)), 0.2)
            sound += (
                fftconvolve(source, _echo(rng, distance_m), mode="full")[:sample_count] / distance_m
            )
        local_noise = _bursts(rng, sample_count, 0.3, 0.4)
        sound += 0.4 * local_noise * np.std(sound) / max(np.std(local_noise), 1e-9)
        sound += 0.02 * np.std(sound) * rng.normal(size=sample_count)
        sound_by_camera[name] = 0.2 * sound / max(np.abs(sound).max(), 1e-9)
    return sound_by_camera


def _bursts(rng: np.random.Generator, count: int, length_s: float, share: float) -> np.ndarray:
    sound = np.zeros(count)
    for _ in range(round(share * count / SAMPLE_RATE_HZ / length_s)):
        burst_samples = max(round(length_s * rng.uniform(0.5, 1.5) * SAMPLE_RATE_HZ), 32)
        first_sample = int(rng.integers(max(count - burst_samples, 1)))
        burst_noise = np.convolve(
            rng.normal(size=burst_samples), np.ones(int(rng.integers(2, 12))), "same"
        )
        sound[first_sample : first_sample + burst_samples] += (
            burst_noise * np.hanning(burst_samples) * rng.uniform(0.3, 1.0)
        )
    return sound


def _echo(rng: np.random.Generator, far_m: float) -> np.ndarray:
    """Draw the impulse response of a room's echo."""
    delay_samples = far_m / SPEED_OF_SOUND_M_S * SAMPLE_RATE_HZ
    reverberation = rng.normal(size=round(0.4 * SAMPLE_RATE_HZ)) * 10 ** (
        -3 * np.arange(round(0.4 * SAMPLE_RATE_HZ)) / (0.5 * SAMPLE_RATE_HZ)
    )
    impulse_response = np.zeros(round(delay_samples) + len(reverberation) + 2)
    first_sample = int(delay_samples)
    impulse_response[first_sample], impulse_response[first_sample + 1] = (
        1 - (delay_samples - first_sample),
        delay_samples - first_sample,
    )
    impulse_response[first_sample + 200 : first_sample + len(reverberation)] += (
        0.03 * reverberation[: len(reverberation) - 200] * min(far_m, 3.0)
    )
    return impulse_response


def write_film(
    file: Path, pictures: np.ndarray, fps: int, sound: np.ndarray | None, codec: str
) -> None:
    """Write a video file of pictures [T, H, W, 3] with a sound [N] sampled at
    ``SAMPLE_RATE_HZ``."""
    with av.open(str(file), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "16"})
        video.height, video.width = pictures.shape[1:3]
        video.pix_fmt = "yuv420p"
        video.codec_context.thread_count = 1
        audio = (
            None
            if sound is None
            else container.add_stream(codec, rate=SAMPLE_RATE_HZ, layout="mono")
        )
        for picture in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
        if audio is not None:
            sound = sound[: round(len(pictures) / fps * SAMPLE_RATE_HZ)]
            samples = (np.clip(sound, -1, 1) * 32767).astype(np.int16)
            step = 960
            for first_sample in range(0, len(samples) - step, step):
                frame = av.AudioFrame.from_ndarray(
                    samples[None, first_sample : first_sample + step], format="s16", layout="mono"
                )
                frame.sample_rate = SAMPLE_RATE_HZ
                frame.pts = first_sample
                frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
                container.mux(audio.encode(frame))
            container.mux(audio.encode(None))
