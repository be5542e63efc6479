// The messages of /api/chat: the first byte is the kind, the rest what it carries (docs/reference/wire.md).

export const Kind = { handshake: 0, audio: 1, text: 2, control: 3, metadata: 4, error: 5, ping: 6 } as const;

export interface Message {
  kind: number;
  payload: Uint8Array;
}

export function parse(data: ArrayBuffer): Message | null {
  const bytes = new Uint8Array(data);
  const kind = bytes[0];
  return kind === undefined ? null : { kind, payload: bytes.subarray(1) };
}

export function encode(kind: number, payload: Uint8Array = new Uint8Array()): Uint8Array<ArrayBuffer> {
  const message = new Uint8Array(1 + payload.length);
  message[0] = kind;
  message.set(payload, 1);
  return message;
}

/** An event that the server tells of, or its place in the queue. */
export interface Told {
  type: string;
  /** Seconds of the conversation. */
  at?: number;
  position?: number;
  text?: string;
  model?: string;
  side?: "user" | "agent" | "transcript";
  dropped?: number;
  behind?: number;
  /** How to come back when the connection breaks (docs/reference/wire.md). */
  resume?: string;
  seconds?: number;
  /** Where the conversation goes on. */
  url?: string;
}
