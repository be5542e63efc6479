// Microphone and loudspeaker: echo cancelled by the browser, played through a jitter buffer.

import { type CallError, PAUSED, UNPLUGGED, UNREACHABLE } from "./problems";

export interface BufferState {
  seconds: number;
  underruns: number;
  dropped: number;
  correction: number;
}

export interface SoundListener {
  /** A piece of the user's voice, at 48 kHz. */
  heard(piece: Float32Array<ArrayBuffer>): void;
  buffered(state: BufferState): void;
  /** There is no more sound. */
  stopped(problem: CallError): void;
}

/** How long the device may keep the sound from running. */
const PATIENCE_MILLISECONDS = 5000;

export class Sound {
  muted = false;
  #listener: SoundListener;
  #context: AudioContext;
  #stream: MediaStream;
  #playback: AudioWorkletNode;
  #patience = 0;

  private constructor(listener: SoundListener, context: AudioContext, stream: MediaStream) {
    this.#listener = listener;
    this.#context = context;
    this.#stream = stream;
    const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
    capture.port.onmessage = (event: MessageEvent<Float32Array<ArrayBuffer>>) => {
      if (this.muted) event.data.fill(0);
      listener.heard(event.data);
    };
    context.createMediaStreamSource(stream).connect(capture);
    this.#playback = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [2] });
    this.#playback.port.onmessage = (event: MessageEvent<BufferState>) => listener.buffered(event.data);
    this.#playback.connect(context.destination);
    for (const track of stream.getTracks()) track.onended = () => listener.stopped(UNPLUGGED);
    context.onstatechange = () => this.#keepRunning();
  }

  /**
   * Asks for the microphone. Call it from a click: browsers want one before they play sound.
   * `cancelled` ends it wherever it is: who has cancelled has no microphone on.
   */
  static async open(listener: SoundListener, cancelled: AbortSignal): Promise<Sound> {
    // At the device's own rate: Firefox joins a microphone to no other.
    const context = new AudioContext({ latencyHint: "interactive" });
    let stream: MediaStream | undefined;
    const close = (): void => {
      stream?.getTracks().forEach((track) => track.stop());
      if (context.state !== "closed") void context.close();
    };
    cancelled.onabort = close;
    try {
      // The microphone comes last: who cancels before has never had it on.
      await Promise.all([
        context.audioWorklet.addModule("capture-worklet.js"),
        context.audioWorklet.addModule("playback-worklet.js"),
      ]).catch(() => {
        throw UNREACHABLE;
      });
      if (cancelled.aborted) throw PAUSED;
      stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
      });
      await Promise.race([context.resume(), paused()]);
      return new Sound(listener, context, stream);
    } catch (problem) {
      close();
      throw problem;
    } finally {
      cancelled.onabort = null;
    }
  }

  play(sound: Float32Array): void {
    this.#playback.port.postMessage(sound, [sound.buffer]);
  }

  /** Stops for good; may be called again. */
  close(): void {
    clearTimeout(this.#patience);
    this.#context.onstatechange = null;
    this.#stream.getTracks().forEach((track) => track.stop());
    if (this.#context.state !== "closed") void this.#context.close();
  }

  /** Goes on when the device has paused the sound, for a phone call for example, or gives up after a while. */
  #keepRunning(): void {
    clearTimeout(this.#patience);
    if (this.#context.state === "running") return;
    this.#patience = window.setTimeout(() => this.#listener.stopped(PAUSED), PATIENCE_MILLISECONDS);
    // Where it may not resume, patience ends.
    this.#context.resume().catch(() => {});
  }
}

/** Rejects when the device has kept the sound from running for too long: it need not tell. */
async function paused(): Promise<never> {
  return new Promise((_, reject) => setTimeout(reject, PATIENCE_MILLISECONDS, PAUSED));
}

/** The level of a piece, the root of its mean square: 0 to 1, speech about 0.1. */
export function level(sound: Float32Array): number {
  const power = sound.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(1, sound.length);
  return Math.sqrt(power);
}
