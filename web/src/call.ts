// One call: a websocket, and the sound in both directions.

import { type Coding, RATE, makeCoding } from "./coding";
import { type BufferState, Sound } from "./sound";
import { Kind, type Told, encode, parse } from "./wire";

/** Why a call did not come about, or ended, and what to do. */
export class CallError extends Error {}

export interface Listener {
  queued(position: number): void;
  begun(format: "opus" | "pcm"): void;
  /** A piece of the user's voice, at 48 kHz. */
  userSound(sound: Float32Array): void;
  agentSound(sound: Float32Array): void;
  told(event: Told): void;
  buffered(state: BufferState): void;
  /** Milliseconds to the server and back. */
  roundTrip(milliseconds: number): void;
  /** The call is over; `problem` says why, unless the user ended it. */
  ended(problem: CallError | null): void;
}

const PING_MILLISECONDS = 2000;
const LOST = "The connection was lost. Check your network and press Talk to call again.";

export class Call {
  #listener: Listener;
  #sound!: Sound;
  #socket!: WebSocket;
  #coding!: Coding;
  #begun = false;
  #over = false;
  #error = "";
  #pinged = 0;
  #pings = 0;

  private constructor(listener: Listener) {
    this.#listener = listener;
  }

  /** Asks for the microphone, then calls. `token` is what the server asks for, if it does. */
  static async start(listener: Listener, token: string): Promise<Call> {
    const call = new Call(listener);
    try {
      call.#coding = await makeCoding({
        onBytes: (bytes) => call.#send(Kind.audio, bytes),
        onSound: (sound) => call.#hearAgent(sound),
      });
      call.#sound = await Sound.open((piece) => call.#hearUser(piece), (state) => listener.buffered(state));
    } catch (problem) {
      throw new CallError(microphoneAdvice(problem));
    }
    try {
      const ticket = token ? await fetchTicket(token) : "";
      await call.#connect(ticket);
    } catch (problem) {
      await call.end();
      throw problem;
    }
    return call;
  }

  get muted(): boolean {
    return this.#sound.muted;
  }

  set muted(muted: boolean) {
    this.#sound.muted = muted;
  }

  async end(): Promise<void> {
    this.#finish(null);
  }

  async #connect(ticket: string): Promise<void> {
    const address = new URL("api/chat", document.baseURI);
    address.protocol = address.protocol.replace("http", "ws");
    address.searchParams.set("format", this.#coding.format);
    address.searchParams.set("events", "full");
    if (ticket) address.searchParams.set("ticket", ticket);
    const socket = (this.#socket = new WebSocket(address));
    socket.binaryType = "arraybuffer";
    socket.onmessage = (event: MessageEvent<ArrayBuffer>) => this.#take(event.data);
    await new Promise<void>((resolve, reject) => {
      socket.onopen = () => resolve();
      socket.onclose = () => reject(new CallError("The server cannot be reached. Is it running? Reload the page and try again."));
    });
    socket.onclose = (event) => this.#closed(event.code);
    this.#pings = window.setInterval(() => {
      this.#pinged = performance.now();
      this.#send(Kind.ping);
    }, PING_MILLISECONDS);
  }

  #take(data: ArrayBuffer): void {
    const message = parse(data);
    if (!message) return;
    const { kind, payload } = message;
    if (kind === Kind.handshake) this.#begin();
    else if (kind === Kind.audio) this.#coding.decode(payload);
    else if (kind === Kind.ping && this.#pinged) this.#listener.roundTrip(performance.now() - this.#pinged);
    else if (kind === Kind.error) this.#error = new TextDecoder().decode(payload);
    else if (kind === Kind.metadata) this.#told(JSON.parse(new TextDecoder().decode(payload)) as Told);
  }

  #told(event: Told): void {
    if (event.type === "Queued") this.#listener.queued(event.position ?? 0);
    else this.#listener.told(event);
  }

  #begin(): void {
    const header = this.#coding.header();
    if (header) this.#send(Kind.audio, header);
    this.#begun = true;
    this.#listener.begun(this.#coding.format);
  }

  #hearUser(piece: Float32Array<ArrayBuffer>): void {
    if (!this.#begun || this.#over) return;
    this.#listener.userSound(piece);
    this.#coding.encode(piece);
  }

  #hearAgent(sound: Float32Array): void {
    if (this.#over) return;
    this.#listener.agentSound(sound);
    this.#sound.play(sound);
  }

  #send(kind: number, payload?: Uint8Array): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(encode(kind, payload));
  }

  #closed(code: number): void {
    if (this.#error) this.#finish(new CallError(sentence(this.#error)));
    else this.#finish(code === 1000 ? null : new CallError(LOST));
  }

  #finish(problem: CallError | null): void {
    if (this.#over) return;
    this.#over = true;
    clearInterval(this.#pings);
    this.#socket?.close(1000);
    this.#coding.close();
    void this.#sound.close();
    this.#listener.ended(problem);
  }
}

async function fetchTicket(token: string): Promise<string> {
  const answer = await fetch("api/ticket", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
  if (!answer.ok) throw new CallError("The server does not know this token. Check it and try again.");
  return ((await answer.json()) as { ticket: string }).ticket;
}

function microphoneAdvice(problem: unknown): string {
  const name = problem instanceof DOMException ? problem.name : "";
  if (!navigator.mediaDevices) return "Browsers give a microphone only to pages over HTTPS. Start the server with --tls.";
  if (name === "NotAllowedError") return "The microphone was refused. Allow it in the address bar, then press Talk again.";
  if (name === "NotFoundError") return "There is no microphone. Plug one in, then press Talk again.";
  if (name === "NotReadableError") return "Another program uses the microphone. Close it, then press Talk again.";
  return `Sound does not work in this browser (${String(problem)}). Try a newer one.`;
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}

export const samplesPerFrame = RATE * 0.08;
