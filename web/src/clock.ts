// The time of the conversation, for pictures: sound comes in pieces of 20 ms, unevenly, and a picture moves evenly.

/** Seconds that the picture is behind the sound, so that there is always sound to be drawn. */
const BEHIND = 0.06;
/** How fast it follows when the two clocks drift apart, as a share of the difference a piece. */
const FOLLOWING = 0.05;

export class SmoothClock {
  #heard = 0;
  #offset: number | null = null;
  #shown = 0;

  /** Notes that sound has been heard up to `heard` seconds of the conversation; `now` is any steady clock. */
  note(heard: number, now: number): void {
    this.#heard = heard;
    const offset = now - heard;
    this.#offset = this.#offset === null ? offset : this.#offset + (offset - this.#offset) * FOLLOWING;
  }

  /** Seconds of the conversation to be shown: never backwards, and never ahead of what was heard. */
  read(now: number): number {
    if (this.#offset !== null)
      this.#shown = Math.max(this.#shown, Math.min(this.#heard, now - this.#offset - BEHIND));
    return this.#shown;
  }

  reset(): void {
    this.#heard = this.#shown = 0;
    this.#offset = null;
  }
}
