// Frames and seconds of a clip as the server tells it: its frames, its rate, and where its frames
// aren't evenly spaced the time of each. ``rate``: frames a second that are picked of it, 0 for
// all.

export function timeOf({ fps, frames, times }, frame) {
  if (!times) return frame / fps;
  return frame < frames ? times[frame] : times[frames - 1] + (frame - frames + 1) / fps;
}

// The frame whose time is nearest.
export function frameAt(clip, seconds) {
  const { fps, frames, times } = clip;
  let at = Math.round(seconds * fps);
  if (times) {
    const after = times.findIndex((time) => time >= seconds);
    at =
      after < 0
        ? frames
        : after > 0 && seconds - times[after - 1] <= times[after] - seconds
          ? after - 1
          : after;
  }
  return Math.min(Math.max(at, 0), frames - 1);
}

// The most frames from ``first`` on, as the loader counts them.
export function mostFrames(clip, first, rate) {
  if (!rate) return clip.frames - first;
  return (
    Math.floor(
      (timeOf(clip, clip.frames - 1) - timeOf(clip, first) + 0.5 / clip.fps) * rate + 1e-9,
    ) + 1
  );
}

// Seconds that ``count`` frames from ``first`` on last.
export function secondsOf(clip, first, count, rate) {
  return rate ? count / rate : timeOf(clip, first + count) - timeOf(clip, first);
}

// The count, one more than a multiple of four, that is nearest to so many seconds and that the clip
// has.
export function countFor(clip, first, seconds, rate) {
  const end = timeOf(clip, first) + seconds;
  const last = timeOf(clip, clip.frames) - 0.5 / clip.fps;
  const count = rate
    ? seconds * rate
    : end > last
      ? clip.frames - first
      : frameAt(clip, end) - first;
  const most = mostFrames(clip, first, rate);
  return Math.max(1, Math.min(4 * Math.round((count - 1) / 4), 4 * Math.floor((most - 1) / 4)) + 1);
}

export const framesSaid = (say, count) => say(count === 1 ? "oneFrame" : "frames", { count });
