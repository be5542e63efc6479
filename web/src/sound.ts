// Microphone and loudspeaker: echo cancelled by the browser, played through a jitter buffer.

import { RATE } from "./coding";
import { CallError, UNREACHABLE } from "./problems";

export interface BufferState {
  seconds: number;
  underruns: number;
  dropped: number;
  correction: number;
}

export class Sound {
  muted = false;
  #context: AudioContext;
  #stream: MediaStream;
  #playback: AudioWorkletNode;

  private constructor(context: AudioContext, stream: MediaStream, playback: AudioWorkletNode) {
    this.#context = context;
    this.#stream = stream;
    this.#playback = playback;
  }

  /** Asks for the microphone. Call it from a click: browsers want one before they play sound. */
  static async open(onPiece: (sound: Float32Array<ArrayBuffer>) => void, onState: (state: BufferState) => void): Promise<Sound> {
    const context = new AudioContext({ sampleRate: RATE, latencyHint: "interactive" });
    let stream: MediaStream | undefined;
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
      });
      await Promise.all([
        context.audioWorklet.addModule("capture-worklet.js"),
        context.audioWorklet.addModule("playback-worklet.js"),
      ]).catch(() => {
        throw new CallError(UNREACHABLE);
      });
      const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
      const playback = new AudioWorkletNode(context, "playback", { numberOfInputs: 0, outputChannelCount: [2] });
      context.createMediaStreamSource(stream).connect(capture);
      playback.connect(context.destination);
      playback.port.onmessage = (event: MessageEvent<BufferState>) => onState(event.data);
      const sound = new Sound(context, stream, playback);
      capture.port.onmessage = (event: MessageEvent<Float32Array<ArrayBuffer>>) => {
        if (sound.muted) event.data.fill(0);
        onPiece(event.data);
      };
      await context.resume();
      return sound;
    } catch (problem) {
      stream?.getTracks().forEach((track) => track.stop());
      await context.close();
      throw problem;
    }
  }

  play(sound: Float32Array): void {
    this.#playback.port.postMessage(sound, [sound.buffer]);
  }

  async close(): Promise<void> {
    this.#stream.getTracks().forEach((track) => track.stop());
    await this.#context.close();
  }
}

/** The level of a piece, from 0 (-60 dB and less) to 1. */
export function level(sound: Float32Array): number {
  const power = sound.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(1, sound.length);
  return Math.max(0, Math.min(1, 1 + Math.log10(power + 1e-12) / 6));
}
