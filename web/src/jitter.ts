// A jitter buffer: sound that comes in bursts and leaves evenly, a little early or late as the two clocks drift apart.
//
// 1. It begins to play once TARGET is filled, and after it has run dry once more.
// 2. While it plays, it reads up to half a per cent faster or slower, to keep its filling near the target: nobody hears
//    that, and it is more than clocks ever drift.
// 3. What is more than LIMIT is thrown away, down to the target.
// 4. In the second after it has run dry, what is more than a frame above the target is thrown away already: what was
//    late comes in a burst, and would keep all that follows late.

/** Seconds. */
const FRAME = 0.08;
const SETTLING = 1;

export class JitterBuffer {
  readonly #rate: number;
  readonly #target: number;
  readonly #limit: number;
  #ring: Float32Array;
  #read = 0;
  #written = 0;
  #smooth: number;
  #playing = false;
  /** Samples to be played until it has settled after it has run dry. */
  #settling = 0;
  underruns = 0;
  /** Samples that were thrown away. */
  dropped = 0;
  /** How much faster than its own pace it is read, as a share. */
  correction = 0;

  constructor(rate: number, target = 0.12, limit = 0.6) {
    this.#rate = rate;
    this.#target = this.#smooth = rate * target;
    this.#limit = rate * limit;
    this.#ring = new Float32Array(2 ** Math.ceil(Math.log2(rate * 4)));
  }

  /** Samples that wait. */
  get filled(): number {
    return this.#written - this.#read;
  }

  push(sound: Float32Array): void {
    for (const sample of sound) this.#ring[this.#written++ & (this.#ring.length - 1)] = sample;
    if (this.filled > (this.#settling > 0 ? this.#target + FRAME * this.#rate : this.#limit)) {
      const excess = Math.floor(this.filled - this.#target);
      this.#read += excess;
      this.dropped += excess;
      this.#smooth = this.#target;
    }
  }

  /** Fills a block with sound, or with silence while there is none. */
  pull(block: Float32Array): void {
    if (!this.#playing && this.filled >= this.#target) {
      this.#playing = true;
      this.#smooth = this.filled;
    }
    if (!this.#playing) {
      block.fill(0);
      return;
    }
    this.#settling -= block.length;
    this.#smooth += (this.filled - this.#smooth) * 0.002;
    this.correction = Math.max(-0.005, Math.min(0.005, ((this.#smooth - this.#target) / this.#target) * 0.01));
    for (let n = 0; n < block.length; n++) {
      if (this.filled < 2) {
        block.fill(0, n);
        this.#playing = false;
        this.#settling = SETTLING * this.#rate;
        this.underruns++;
        return;
      }
      const whole = Math.floor(this.#read);
      const part = this.#read - whole;
      const mask = this.#ring.length - 1;
      block[n] = this.#ring[whole & mask]! * (1 - part) + this.#ring[(whole + 1) & mask]! * part;
      this.#read += 1 + this.correction;
    }
  }
}
