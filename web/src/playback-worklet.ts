// Plays the agent's sound at the device's rate, and tells twice a second how its buffer does.

import { JitterBuffer } from "./jitter";
import { RATE } from "./rate";
import { Resampler } from "./resampler";

class Playback extends AudioWorkletProcessor {
  #resampler = new Resampler(RATE, sampleRate);
  #buffer = new JitterBuffer(sampleRate);
  #blocks = 0;

  constructor() {
    super();
    this.port.onmessage = (event: MessageEvent<Float32Array>) => this.#buffer.push(this.#resampler.feed(event.data));
  }

  override process(_: Float32Array[][], outputs: Float32Array[][]): boolean {
    const block = outputs[0]?.[0];
    if (!block) return true;
    this.#buffer.pull(block);
    for (const other of outputs[0]!.slice(1)) other.set(block);
    if (++this.#blocks % 187 === 0) {
      const { filled, underruns, dropped, correction } = this.#buffer;
      this.port.postMessage({ seconds: filled / sampleRate, underruns, dropped: dropped / sampleRate, correction });
    }
    return true;
  }
}

registerProcessor("playback", Playback);
