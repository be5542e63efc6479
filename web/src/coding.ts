// Sound to bytes and back: Opus by the browser's own codecs where it has them, else 16-bit samples.

import { OggReader, OggWriter, isHeader } from "./ogg";
import { RATE } from "./rate";
import { Resampler } from "./resampler";

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

/** 16-bit samples at the wire's rate. */
class PcmCoding implements Coding {
  readonly format = "pcm";
  #outputs: Outputs;
  #down = new Resampler(RATE, WIRE_RATE);
  #up = new Resampler(WIRE_RATE, RATE);

  constructor(outputs: Outputs) {
    this.#outputs = outputs;
  }

  header(): null {
    return null;
  }

  encode(sound: Float32Array): void {
    const samples = this.#down.feed(sound);
    const whole = Int16Array.from(samples, (sample) => Math.round(Math.max(-1, Math.min(32767 / 32768, sample)) * 32768));
    this.#outputs.onBytes(new Uint8Array(whole.buffer));
  }

  decode(bytes: Uint8Array): void {
    const whole = new Int16Array(bytes.slice().buffer);
    this.#outputs.onSound(this.#up.feed(Float32Array.from(whole, (sample) => sample / 32768)));
  }

  close(): void {}
}
