// Sound at another rate: a low-pass below both rates' halves, a windowed sinc, read wherever a new sample falls.

/** Zero crossings of the sinc to each side. */
const REACH = 16;
/** What passes, as a share of half the lower rate. */
const PASSES = 0.92;

export class Resampler {
  /** The rates, divided by what they have in common: so many samples become so many. */
  readonly #from: number;
  readonly #to: number;
  readonly #taps: number;
  /** The filter, once for each place between two samples where a new one can fall. */
  readonly #filters: Float32Array[];
  #past: Float32Array;
  #place = 0;

  constructor(from: number, to: number) {
    const common = divisor(from, to);
    this.#from = from / common;
    this.#to = to / common;
    const cutoff = PASSES * Math.min(1, to / from);
    const half = Math.ceil(REACH / cutoff);
    this.#taps = 2 * half;
    this.#filters = Array.from({ length: this.#to }, (_, place) => filter(half, place / this.#to, cutoff));
    this.#past = new Float32Array(half - 1);
  }

  /** Takes the next piece of sound; returns what it becomes, so far. */
  feed(sound: Float32Array): Float32Array {
    if (this.#from === this.#to) return sound;
    const input = new Float32Array(this.#past.length + sound.length);
    input.set(this.#past);
    input.set(sound, this.#past.length);
    const output: number[] = [];
    let at = 0;
    for (; at + this.#taps <= input.length; at += Math.floor(this.#place / this.#to), this.#place %= this.#to) {
      const taps = this.#filters[this.#place]!;
      let sum = 0;
      for (let k = 0; k < taps.length; k++) sum += taps[k]! * input[at + k]!;
      output.push(sum);
      this.#place += this.#from;
    }
    this.#past = input.subarray(at);
    return Float32Array.from(output);
  }
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}

/** The taps around a place that is `fraction` after the last of the first half of them. */
function filter(half: number, fraction: number, cutoff: number): Float32Array {
  const taps = Float32Array.from({ length: 2 * half }, (_, n) => {
    const x = n - half + 1 - fraction;
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * cutoff * x) / (Math.PI * cutoff * x);
    return sinc * (0.5 + 0.5 * Math.cos((Math.PI * x) / half));
  });
  const sum = taps.reduce((total, tap) => total + tap, 0);
  return taps.map((tap) => tap / sum);
}
