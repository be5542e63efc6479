// The conversation as a stereo wav file, user left, agent right, on the clock of the user's microphone.
//
// 16-bit samples, put away second by second in blobs, which a browser may keep on disk; of a long conversation the last
// hour.

import { RATE } from "./rate";

/** How much of the agent's sound must wait before it is taken, as in the jitter buffer: what comes late tears nothing. */
const AHEAD = 0.12 * RATE;
const LONGEST_SECONDS = 3600;
const HEADER = 44;
const BYTES_PER_FRAME = 4;

export class Recording {
  #seconds: Blob[] = [];
  /** The second that is being filled, its two channels interleaved. */
  #second = new Int16Array(2 * RATE);
  #filled = 0;
  #agent: Float32Array[] = [];
  #waiting = 0;
  #flows = false;
  /** Whether only the last hour is kept: there was more. */
  cut = false;

  get empty(): boolean {
    return this.#seconds.length === 0 && this.#filled === 0;
  }

  /** Takes what the agent said, to be put beside what the user says next. */
  hearAgent(sound: Float32Array): void {
    this.#agent.push(sound.slice());
    this.#waiting += sound.length;
  }

  hearUser(sound: Float32Array): void {
    const agent = this.#take(sound.length);
    for (let n = 0; n < sound.length; n++) {
      this.#second[this.#filled++] = sample(sound[n]!);
      this.#second[this.#filled++] = sample(agent[n]!);
      if (this.#filled === this.#second.length) this.#putAway();
    }
  }

  #putAway(): void {
    this.#seconds.push(new Blob([this.#second]));
    this.#filled = 0;
    if (this.#seconds.length <= LONGEST_SECONDS) return;
    this.#seconds.shift();
    this.cut = true;
  }

  #take(length: number): Float32Array {
    const taken = new Float32Array(length);
    let at = 0;
    this.#flows ||= this.#waiting >= AHEAD;
    if (!this.#flows) return taken;
    while (at < length && this.#agent.length) {
      const first = this.#agent[0]!;
      const part = first.subarray(0, length - at);
      taken.set(part, at);
      at += part.length;
      if (part.length === first.length) this.#agent.shift();
      else this.#agent[0] = first.subarray(part.length);
    }
    this.#waiting -= at;
    this.#flows = this.#waiting > 0;
    return taken;
  }

  wav(): Blob {
    while (this.#waiting) {
      this.#flows = true;
      this.hearUser(new Float32Array(Math.min(this.#waiting, RATE)));
    }
    const sound = new Blob([...this.#seconds, this.#second.subarray(0, this.#filled)]);
    return new Blob([header(sound.size), sound], { type: "audio/wav" });
  }
}

function sample(value: number): number {
  return 32767 * Math.max(-1, Math.min(1, value));
}

/** What begins a wav file with so many bytes of sound. */
function header(bytes: number): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(HEADER));
  const text = (at: number, value: string) => [...value].forEach((letter, n) => view.setUint8(at + n, letter.charCodeAt(0)));
  text(0, "RIFF");
  view.setUint32(4, HEADER - 8 + bytes, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true);
  view.setUint16(20, 1, true);
  view.setUint16(22, 2, true);
  view.setUint32(24, RATE, true);
  view.setUint32(28, RATE * BYTES_PER_FRAME, true);
  view.setUint16(32, BYTES_PER_FRAME, true);
  view.setUint16(34, 16, true);
  text(36, "data");
  view.setUint32(40, bytes, true);
  return view.buffer;
}
