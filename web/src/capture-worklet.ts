// Gathers the microphone's sound into pieces of 20 ms, at the page's rate.

import { RATE } from "./rate";
import { Resampler } from "./resampler";

const PIECE = RATE * 0.02;

class Capture extends AudioWorkletProcessor {
  #resampler = new Resampler(sampleRate, RATE);
  #piece = new Float32Array(PIECE);
  #filled = 0;

  override process(inputs: Float32Array[][]): boolean {
    const block = inputs[0]?.[0];
    if (!block) return true;
    const sound = this.#resampler.feed(block);
    let at = 0;
    while (at < sound.length) {
      const part = sound.subarray(at, at + PIECE - this.#filled);
      this.#piece.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled === PIECE) {
        this.port.postMessage(this.#piece, [this.#piece.buffer]);
        this.#piece = new Float32Array(PIECE);
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("capture", Capture);
