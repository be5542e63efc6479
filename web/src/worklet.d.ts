// What an audio worklet has around it, which the types of a page leave out.

declare const sampleRate: number;

declare abstract class AudioWorkletProcessor {
  readonly port: MessagePort;
  abstract process(inputs: Float32Array[][], outputs: Float32Array[][]): boolean;
}

declare function registerProcessor(name: string, kind: new () => AudioWorkletProcessor): void;
