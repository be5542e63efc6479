// The conversation as a stereo wav file, user left, agent right, on the clock of the user's microphone.

import { RATE } from "./rate";

/** How much of the agent's sound must wait before it is taken, as in the jitter buffer: what comes late tears nothing. */
const AHEAD = 0.12 * RATE;

export class Recording {
  #pieces: { user: Float32Array; agent: Float32Array }[] = [];
  #agent: Float32Array[] = [];
  #waiting = 0;
  #flows = false;

  get seconds(): number {
    return this.#pieces.reduce((sum, piece) => sum + piece.user.length, 0) / RATE;
  }

  /** Takes what the agent said, to be put beside what the user says next. */
  hearAgent(sound: Float32Array): void {
    this.#agent.push(sound.slice());
    this.#waiting += sound.length;
  }

  hearUser(sound: Float32Array): void {
    this.#pieces.push({ user: sound.slice(), agent: this.#take(sound.length) });
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
    const frames = this.#pieces.reduce((sum, piece) => sum + piece.user.length, 0);
    const view = new DataView(new ArrayBuffer(44 + 4 * frames));
    const text = (at: number, value: string) => [...value].forEach((letter, n) => view.setUint8(at + n, letter.charCodeAt(0)));
    text(0, "RIFF");
    view.setUint32(4, 36 + 4 * frames, true);
    text(8, "WAVEfmt ");
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true);
    view.setUint16(22, 2, true);
    view.setUint32(24, RATE, true);
    view.setUint32(28, RATE * 4, true);
    view.setUint16(32, 4, true);
    view.setUint16(34, 16, true);
    text(36, "data");
    view.setUint32(40, 4 * frames, true);
    let at = 44;
    for (const { user, agent } of this.#pieces) {
      for (let n = 0; n < user.length; n++, at += 4) {
        view.setInt16(at, 32767 * Math.max(-1, Math.min(1, user[n]!)), true);
        view.setInt16(at + 2, 32767 * Math.max(-1, Math.min(1, agent[n]!)), true);
      }
    }
    return new Blob([view.buffer], { type: "audio/wav" });
  }
}
