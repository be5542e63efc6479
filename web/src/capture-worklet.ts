// Gathers the microphone's sound into pieces of 20 ms.

const PIECE = 960;

class Capture extends AudioWorkletProcessor {
  #piece = new Float32Array(PIECE);
  #filled = 0;

  override process(inputs: Float32Array[][]): boolean {
    const sound = inputs[0]?.[0];
    if (!sound) return true;
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
