// The conversation as a stereo wav file, user left, agent right, on the clock of the user's microphone.
//
// 16-bit samples, put away second by second in blobs, which a browser may keep on disk; of a long conversation the last
// hour.

import { RATE } from "./rate";

/** How much of the agent's sound must wait before it is taken, as in the jitter buffer: what comes late tears nothing. */
const AHEAD = 0.12 * RATE;
const LONGEST_SECONDS = 3600;
const BYTES_PER_FRAME = 4;
/** What the server's recordings say of themselves, with the term of the IPTC by which machines find it. */
const SYNTHETIC =
  "Synthetic speech in the right channel; " +
  "digitalSourceType=http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia";

export class Recording {
  #seconds: Blob[] = [];
  /** The second that is being filled, its two channels interleaved. */
  #second = new Int16Array(2 * RATE);
  #filled = 0;
  #agent: Float32Array[] = [];
  #waiting = 0;
  #flows = false;
  /** Whether there was an agent's voice, which recognition models have not. */
  #spoken = false;
  /** Whether only the last hour is kept: there was more. */
  cut = false;

  get empty(): boolean {
    return this.#seconds.length === 0 && this.#filled === 0;
  }

  /** Takes what the agent said, to be put beside what the user says next. */
  hearAgent(sound: Float32Array): void {
    this.#spoken = true;
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
    return new Blob([header(sound.size, this.#spoken), sound], { type: "audio/wav" });
  }
}

function sample(value: number): number {
  return 32767 * Math.max(-1, Math.min(1, value));
}

/** What begins a wav file with so many bytes of sound; one with synthetic speech says so, in a LIST INFO chunk. */
function header(bytes: number, synthetic: boolean): Blob {
  const format = new DataView(new ArrayBuffer(16));
  format.setUint16(0, 1, true);
  format.setUint16(2, 2, true);
  format.setUint32(4, RATE, true);
  format.setUint32(8, RATE * BYTES_PER_FRAME, true);
  format.setUint16(12, BYTES_PER_FRAME, true);
  format.setUint16(14, 16, true);
  const mark = chunk("LIST", new Blob(["INFO", chunk("ISFT", new Blob(["duplex\0"])), chunk("ICMT", new Blob([SYNTHETIC, "\0"]))]));
  const before = new Blob(["WAVE", chunk("fmt ", new Blob([format])), ...(synthetic ? [mark] : []), "data", size(bytes)]);
  return new Blob(["RIFF", size(before.size + bytes), before]);
}

/** A chunk of a wav file, padded to an even number of bytes. */
function chunk(name: string, data: Blob): Blob {
  return new Blob([name, size(data.size), data, ...(data.size % 2 ? ["\0"] : [])]);
}

function size(bytes: number): ArrayBuffer {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, bytes, true);
  return view.buffer;
}
