// How loud a voice is over the conversation, in bars that lie at fixed times: they move, and never change again.

/** Seconds of a bar. */
export const BAR = 0.06;
/** The level that fills a bar: that of loud speech. */
const FULL = 0.32;

export class Envelope {
  #bars: number[] = [];
  /** Seconds up to which there is sound. */
  end = 0;

  /** Takes the level of the next piece, root mean square, and its seconds. */
  add(level: number, seconds: number): void {
    const size = Math.min(1, Math.sqrt(level / FULL));
    const last = Math.floor((this.end + seconds - 1e-6) / BAR);
    for (let n = Math.floor(this.end / BAR + 1e-6); n <= last; n++) this.#bars[n] = Math.max(this.#bars[n] ?? 0, size);
    this.end += seconds;
  }

  /** Goes on at a later time, if it is later: there is no sound in between. */
  skipTo(at: number): void {
    if (at > this.end) this.add(0, at - this.end);
  }

  /** How much of its height a bar fills, 0 to 1. */
  at(bar: number): number {
    return this.#bars[bar] ?? 0;
  }

  clear(): void {
    this.#bars = [];
    this.end = 0;
  }
}
