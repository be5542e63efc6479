// One call: a websocket, and the sound in both directions.

import { type Coding, makeCoding } from "./coding";
import type { Consent } from "./consent";
import { Dialler } from "./dialler";
import {
  CallError,
  LOST,
  UNKNOWN_TOKEN,
  UNREACHABLE,
  codingProblem,
  ending,
  soundProblem,
} from "./problems";
import { type BufferState, Sound } from "./sound";
import { BUSY, Return } from "./return";
import { Kind, type Told, encode, parse } from "./wire";

export interface Listener {
  /** There is a microphone; the server is asked for a place. */
  connecting(): void;
  queued(position: number): void;
  begun(): void;
  /** The connection has broken and another is being made, or the conversation goes on. */
  interrupted(broken: boolean): void;
  /** A piece of the user's voice, at 48 kHz. */
  userSound(sound: Float32Array, muted: boolean): void;
  agentSound(sound: Float32Array): void;
  told(event: Told): void;
  buffered(state: BufferState): void;
  /** Milliseconds to the server and back. */
  roundTrip(milliseconds: number): void;
  /** The call is over, or did not come about; `problem` says why, unless the user ended it. */
  ended(problem: CallError | null): void;
}

const LOST_CODE = 1006;
const PING_MILLISECONDS = 2000;
/** Pings in a row, 10 s, during which nothing was heard: the server says something every 5 s, and answers pings. */
const SILENT_PINGS = 5;
/** The same in a conversation that can be come back to, in which sound comes all the time. */
const SILENT_PINGS_TALKING = 2;

/** What is asked for in the address; empty words leave it to the server. */
export interface Wishes {
  model: string;
  instructions: string;
  voice: string;
  recording: Consent;
}

export class Call {
  #listener: Listener;
  #sound: Sound | null = null;
  #socket: WebSocket | null = null;
  #coding: Coding | null = null;
  #begun = false;
  #over = false;
  readonly #ended = new AbortController();
  #error = "";
  /** When the ping was sent whose answer is awaited, 0 if none is. */
  #pinged = 0;
  /** Counted in pings, not by the clock: a machine that has slept hears what has come before it judges. */
  #silence = 0;
  #pings = 0;
  #return = new Return();
  readonly #dialler: Dialler;
  readonly #wishes: Wishes;

  /** Asks for the microphone, then calls. `token` is what the server asks for, if it does. */
  constructor(listener: Listener, token: string, wishes: Wishes, placed: boolean) {
    this.#listener = listener;
    this.#dialler = new Dialler(token, placed);
    this.#wishes = wishes;
    void this.#start();
  }

  async #start(): Promise<void> {
    try {
      const coding = await this.#open();
      if (!this.#over) this.#listener.connecting();
      if (!this.#over) await this.#enter(coding);
    } catch (problem) {
      // What is no error of ours came from who stands between: an answer in another language, or cut off.
      this.#finish(problem instanceof CallError ? problem : UNREACHABLE);
    }
    // Something may have opened after the end.
    if (this.#over) this.#release();
  }

  get muted(): boolean {
    return this.#sound?.muted ?? false;
  }

  set muted(muted: boolean) {
    if (this.#sound) this.#sound.muted = muted;
  }

  end(): void {
    const broken = this.#return.known && this.#socket?.readyState !== WebSocket.OPEN;
    this.#finish(null);
    if (broken) void this.#sayGoodbye();
  }

  async #open(): Promise<Coding> {
    try {
      const coding = await makeCoding({
        onBytes: (bytes) => this.#send(Kind.audio, bytes),
        onSound: (sound) => this.#hearAgent(sound),
        onError: (problem) => this.#finish(codingProblem(problem)),
      });
      this.#coding = coding;
      const listener = {
        heard: (piece: Float32Array<ArrayBuffer>) => this.#hearUser(piece),
        buffered: (state: BufferState) => this.#listener.buffered(state),
        stopped: (problem: CallError) => this.#finish(problem),
      };
      this.#sound = await Sound.open(listener, this.#ended.signal);
      return coding;
    } catch (problem) {
      throw problem instanceof CallError ? problem : soundProblem(problem);
    }
  }

  /** Calls, at one place after the other until one takes the call. */
  async #enter(coding: Coding): Promise<void> {
    for (;;) {
      try {
        await this.#connect(coding);
        return;
      } catch (problem) {
        if (this.#over || !this.#dialler.more) throw problem;
      }
    }
  }

  async #connect(coding: Coding): Promise<void> {
    const socket = (this.#socket = await this.#dial(coding));
    socket.onmessage = (event: MessageEvent<ArrayBuffer>) => this.#take(event.data, coding);
    socket.onclose = (event) => this.#closed(event.code, coding);
    clearInterval(this.#pings);
    this.#silence = this.#pinged = 0;
    this.#pings = window.setInterval(() => this.#ping(), PING_MILLISECONDS);
  }

  async #dial(coding: Coding): Promise<WebSocket> {
    const query = Object.entries({ format: coding.format, events: "full", ...this.#wishes });
    return this.#dialler.dial(query, this.#return);
  }

  #ping(): void {
    const most = this.#return.known ? SILENT_PINGS_TALKING : SILENT_PINGS;
    // Closed by this side, a websocket that is dead says so only after a while.
    if (++this.#silence > most && this.#coding) this.#closed(LOST_CODE, this.#coding);
    if (this.#pinged) return;
    this.#pinged = performance.now();
    this.#send(Kind.ping);
  }

  #take(data: ArrayBuffer, coding: Coding): void {
    const message = parse(data);
    if (!message || this.#over) return;
    this.#silence = 0;
    this.#return.count(message.kind);
    const { kind, payload } = message;
    if (kind === Kind.handshake) this.#begin(coding);
    else if (kind === Kind.audio) coding.decode(payload);
    else if (kind === Kind.ping) this.#answered();
    else if (kind === Kind.error) this.#error = new TextDecoder().decode(payload);
    else if (kind === Kind.metadata) this.#told(JSON.parse(new TextDecoder().decode(payload)) as Told);
  }

  /** Takes a ping: the answer to one of its own, or a sign that the server lives. */
  #answered(): void {
    if (!this.#pinged) return;
    this.#listener.roundTrip(performance.now() - this.#pinged);
    this.#pinged = 0;
  }

  #told(event: Told): void {
    if (event.type === "Queued") this.#listener.queued(event.position ?? 0);
    else if (event.type === "Session") this.#comeBack(event);
    else if (event.type === "Moved") this.#return.follow(event.url ?? "");
    else this.#listener.told(event);
  }

  #begin(coding: Coding): void {
    const header = coding.header();
    if (header) this.#send(Kind.audio, header);
    // At another server the sound of both sides begins anew, and the conversation does not.
    if (!this.#return.known) this.#listener.begun();
    this.#begun = true;
  }

  #comeBack(session: Told): void {
    if (this.#return.take(session)) this.#listener.interrupted(false);
    this.#begun = true;
  }

  async #resume(coding: Coding): Promise<void> {
    this.#begun = false;
    this.#listener.interrupted(true);
    clearInterval(this.#pings);
    const dead = this.#socket;
    if (dead) dead.onclose = dead.onmessage = null;
    dead?.close();
    for await (const _ of this.#return.attempts()) {
      if (this.#over) return;
      try {
        await this.#connect(coding);
        return;
      } catch (problem) {
        if (problem === UNKNOWN_TOKEN) return this.#finish(UNKNOWN_TOKEN);
      }
    }
    this.#finish(LOST);
  }

  /** Tells the server that a call is over whose line is broken: it would keep the place for a while. */
  async #sayGoodbye(): Promise<void> {
    for await (const _ of this.#return.attempts()) {
      const socket = await this.#dial(this.#coding!).catch(() => null);
      if (!socket) continue;
      socket.close(1000);
      return;
    }
  }

  #hearUser(piece: Float32Array<ArrayBuffer>): void {
    if (!this.#begun || this.#over) return;
    this.#listener.userSound(piece, this.muted);
    this.#coding?.encode(piece);
  }

  #hearAgent(sound: Float32Array): void {
    if (this.#over) return;
    this.#listener.agentSound(sound);
    this.#sound?.play(sound);
  }

  #send(kind: number, payload?: Uint8Array): void {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(encode(kind, payload));
  }

  #closed(code: number, coding: Coding): void {
    if (!this.#over && this.#return.possible(code)) {
      this.#error = "";
      void this.#resume(coding);
      return;
    }
    if (!this.#over && !this.#return.known && BUSY.includes(code) && this.#dialler.more) {
      this.#error = "";
      clearInterval(this.#pings);
      this.#enter(coding).catch((problem: unknown) => this.#finish(problem instanceof CallError ? problem : LOST));
      return;
    }
    if (this.#error) this.#finish(ending(code, this.#error));
    else this.#finish(code === 1000 ? null : LOST);
  }

  #finish(problem: CallError | null): void {
    if (this.#over) return;
    this.#over = true;
    this.#release();
    this.#listener.ended(problem);
  }

  #release(): void {
    clearInterval(this.#pings);
    this.#ended.abort();
    this.#dialler.cancel();
    this.#socket?.close(1000);
    this.#coding?.close();
    this.#sound?.close();
  }
}
