// The frames in use: frame i of the clip is the source video's frame indices[i], at times_s[i].
// Keyframes count either.

export class FrameClock {
  constructor(indices, times) {
    this.indices = indices;
    this.times = times;
  }

  // What stands in until a run has told more: the released length.
  static standard(count = 49, fps = 30) {
    const numbers = Array.from({ length: count }, (_, i) => i);
    const times = numbers.map((i) => i / fps);
    return Object.assign(new FrameClock(numbers, times), { isAssumed: true });
  }

  get count() {
    return this.indices.length;
  }

  moments(clock) {
    return clock === "time_s" ? this.times : this.indices;
  }

  momentAt(frame, clock) {
    const moments = this.moments(clock);
    return moments[Math.min(Math.max(Math.round(frame), 0), moments.length - 1)];
  }

  // The place of a moment among the frames, fractional, held at the ends.
  frameOf(moment, clock) {
    const moments = this.moments(clock);
    const last = moments.length - 1;
    if (!(moment > moments[0])) return 0;
    if (moment >= moments[last]) return last;
    let i = 0;
    while (moments[i + 1] <= moment) i++;
    return i + (moment - moments[i]) / (moments[i + 1] - moments[i]);
  }

  contains(moment, clock) {
    const moments = this.moments(clock);
    return moment >= moments[0] - 1e-9 && moment <= moments[moments.length - 1] + 1e-9;
  }

  get seconds() {
    return this.times[this.count - 1] - this.times[0];
  }
}
