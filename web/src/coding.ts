// Sound to bytes and back: Opus by the browser's own codecs where it has them, else 16-bit samples.

import { OggReader, OggWriter, isHeader } from "./ogg";

/** Hertz of all sound in the page. */
export const RATE = 48000;
/** Hertz of 16-bit samples on the wire. */
const WIRE_RATE = 24000;
const PACKET_SECONDS = 0.02;

export interface Coding {
  readonly format: "opus" | "pcm";
  /** What begins the user's audio. */
  header(): Uint8Array | null;
  /** Takes the user's sound; what it becomes is given to `onBytes`. */
  encode(sound: Float32Array<ArrayBuffer>): void;
  /** Takes the agent's bytes; what they become is given to `onSound`. */
  decode(bytes: Uint8Array): void;
  /** Stops for good; may be called again. */
  close(): void;
}

interface Outputs {
  onBytes(bytes: Uint8Array): void;
  onSound(sound: Float32Array): void;
  /** No more sound can be coded. */
  onError(problem: DOMException): void;
}

const ENCODER = { codec: "opus", sampleRate: RATE, numberOfChannels: 1, bitrate: 32000 };
const DECODER = { codec: "opus", sampleRate: RATE, numberOfChannels: 1 };

/** Chooses what this browser can do. */
export async function makeCoding(outputs: Outputs): Promise<Coding> {
  if (!("AudioEncoder" in window) || !("AudioDecoder" in window)) return new PcmCoding(outputs);
  const [encoder, decoder] = await Promise.all([
    AudioEncoder.isConfigSupported(ENCODER),
    AudioDecoder.isConfigSupported(DECODER),
  ]);
  return encoder.supported && decoder.supported ? new OpusCoding(outputs) : new PcmCoding(outputs);
}

class OpusCoding implements Coding {
  readonly format = "opus";
  #writer = new OggWriter(RATE);
  #reader = new OggReader();
  #encoder: AudioEncoder;
  #decoder: AudioDecoder;
  #sent = 0;
  #received = 0;

  constructor(outputs: Outputs) {
    const error = (problem: DOMException) => outputs.onError(problem);
    this.#encoder = new AudioEncoder({
      error,
      output: (chunk) => {
        const packet = new Uint8Array(chunk.byteLength);
        chunk.copyTo(packet);
        outputs.onBytes(this.#writer.packet(packet, ((chunk.duration ?? PACKET_SECONDS * 1e6) * RATE) / 1e6));
      },
    });
    this.#encoder.configure(ENCODER);
    this.#decoder = new AudioDecoder({
      error,
      output: (data) => {
        const sound = new Float32Array(data.numberOfFrames);
        data.copyTo(sound, { planeIndex: 0, format: "f32-planar" });
        data.close();
        outputs.onSound(sound);
      },
    });
    this.#decoder.configure(DECODER);
  }

  header(): Uint8Array {
    return this.#writer.header();
  }

  encode(sound: Float32Array<ArrayBuffer>): void {
    const data = new AudioData({
      format: "f32-planar",
      sampleRate: RATE,
      numberOfChannels: 1,
      numberOfFrames: sound.length,
      timestamp: (this.#sent * 1e6) / RATE,
      data: sound,
    });
    this.#sent += sound.length;
    this.#encoder.encode(data);
    data.close();
  }

  decode(bytes: Uint8Array): void {
    for (const packet of this.#reader.feed(bytes)) {
      if (isHeader(packet)) continue;
      this.#decoder.decode(new EncodedAudioChunk({ type: "key", timestamp: this.#received++ * 80000, data: packet }));
    }
  }

  close(): void {
    // A codec that has failed is closed already.
    for (const codec of [this.#encoder, this.#decoder]) if (codec.state !== "closed") codec.close();
  }
}

/** 16-bit samples at half the page's rate. */
class PcmCoding implements Coding {
  readonly format = "pcm";
  #outputs: Outputs;
  #down = new HalfBand();
  #up = new HalfBand();

  constructor(outputs: Outputs) {
    this.#outputs = outputs;
  }

  header(): null {
    return null;
  }

  encode(sound: Float32Array): void {
    const smooth = this.#down.filter(sound);
    const samples = new Int16Array(Math.floor(sound.length / (RATE / WIRE_RATE)));
    for (let n = 0; n < samples.length; n++) {
      samples[n] = Math.round(Math.max(-1, Math.min(32767 / 32768, smooth[2 * n]!)) * 32768);
    }
    this.#outputs.onBytes(new Uint8Array(samples.buffer));
  }

  decode(bytes: Uint8Array): void {
    const samples = new Int16Array(bytes.slice().buffer);
    const spread = new Float32Array(2 * samples.length);
    samples.forEach((sample, n) => (spread[2 * n] = sample / 16384));
    this.#outputs.onSound(this.#up.filter(spread));
  }

  close(): void {}
}

/** A low-pass at a quarter of the rate: 31 taps of a windowed sinc. */
class HalfBand {
  static readonly #taps = Float32Array.from({ length: 31 }, (_, n) => {
    const x = n - 15;
    const sinc = x === 0 ? 0.5 : Math.sin((Math.PI * x) / 2) / (Math.PI * x);
    return sinc * (0.54 + 0.46 * Math.cos((Math.PI * x) / 16));
  });
  #past = new Float32Array(30);

  filter(sound: Float32Array): Float32Array {
    const taps = HalfBand.#taps;
    const input = new Float32Array(30 + sound.length);
    input.set(this.#past);
    input.set(sound, 30);
    const output = sound.map((_, n) => taps.reduce((sum, tap, k) => sum + tap * input[n + k]!, 0));
    this.#past = input.slice(sound.length);
    return output;
  }
}
