// What the page shows of a call.

import type { Listener } from "./call";
import { show, element, write } from "./page";
import type { CallError } from "./problems";
import { RATE } from "./rate";
import { Recording } from "./recording";
import { type BufferState, level } from "./sound";
import { QUIET, type Situation, wordsFor } from "./states";
import { Timeline } from "./timeline";
import type { Told } from "./wire";
import { Words } from "./words";

/** Milliseconds that a loss is told. */
const LOSS_SHOWN = 4000;
/** Below this level nothing comes from a microphone, not even the noise of a room. */
const NOTHING = 0.0005;
/** Seconds of it after which that is told. */
const NOTHING_SECONDS = 6;
/** The agent's sound is drawn in pieces of so many samples. */
const PIECE = RATE * 0.02;

export class View implements Listener {
  readonly #timeline = new Timeline(element<HTMLCanvasElement>("lanes"));
  readonly #words = new Words(element("words"));
  readonly #changed: () => void;
  readonly #finished: (problem: CallError | null) => void;
  #now: Situation = QUIET;
  #recording = new Recording();
  /** Seconds of silence since the call began; 0 once something was heard. */
  #silent = 0;
  #lost = 0;
  #forgetting = 0;

  /** `changed` is what to do when the call has come further, `finished` when it is over. */
  constructor(changed: () => void, finished: (problem: CallError | null) => void) {
    this.#changed = changed;
    this.#finished = finished;
  }

  get phase(): Situation["phase"] {
    return this.#now.phase;
  }

  get recording(): Recording {
    return this.#recording;
  }

  /** Changes what is known of the call, and shows it. */
  know(change: Partial<Situation>): void {
    const before = this.#now.phase;
    this.#now = { ...this.#now, ...change };
    const { state, title, detail, said } = wordsFor(this.#now);
    document.body.dataset.phase = this.#now.phase;
    document.body.dataset.state = state;
    document.body.dataset.kind = this.#now.kind;
    write("title", title);
    write("detail", detail);
    write("status", said);
    this.#tellSides();
    if (before !== this.#now.phase) this.#changed();
  }

  asking(kind: string): void {
    this.know({ ...QUIET, phase: "asking", kind });
  }

  connecting(): void {
    this.know({ phase: "connecting" });
  }

  queued(position: number): void {
    this.know({ phase: "queued", position });
  }

  interrupted(broken: boolean): void {
    this.know({ broken });
  }

  begun(): void {
    // What was kept of the call before goes only now: this one has come about.
    this.#recording = new Recording();
    this.#silent = Number.EPSILON;
    this.#lost = 0;
    write("kept", "");
    this.#words.clear();
    show("stage", true);
    show("transcript", true);
    this.#timeline.start();
    this.know({ phase: "talking" });
  }

  userSound(sound: Float32Array, muted: boolean): void {
    const loud = level(sound);
    const seconds = sound.length / RATE;
    this.#recording.hearUser(sound);
    // Once, or it would be read aloud again and again.
    if (this.#recording.cut && !element("kept").textContent) write("kept", "Only the last hour is kept in the recording.");
    this.#timeline.hearUser(loud, seconds, muted);
    if (loud > NOTHING) this.#silent = 0;
    else if (this.#silent && !muted) this.#silent += seconds;
    const unheard = this.#silent > NOTHING_SECONDS;
    if (unheard !== this.#now.unheard) this.know({ unheard });
  }

  agentSound(sound: Float32Array): void {
    this.#recording.hearAgent(sound);
    const levels = [];
    for (let at = 0; at < sound.length; at += PIECE) levels.push(level(sound.subarray(at, at + PIECE)));
    this.#timeline.hearAgent(levels, sound.length / RATE);
  }

  told(event: Told): void {
    const at = event.at ?? 0;
    switch (event.type) {
      case "AgentText":
        show("suggestions", false);
        this.#words.write(event.text ?? "");
        this.#timeline.say("agent", event.text ?? "", at);
        break;
      case "UserText":
        show("suggestions", false);
        this.#words.hear(event.text ?? "", at);
        this.#timeline.say("user", ` ${event.text ?? ""}`, at);
        break;
      case "UserSpeechStarted":
        this.#words.beginUser(at);
        this.know({ userSpeaks: true });
        break;
      case "UserSpeechStopped":
        this.know({ userSpeaks: false });
        break;
      case "AgentSpeechStarted":
        this.know({ agentSpeaks: true });
        break;
      case "AgentSpeechStopped":
        this.know({ agentSpeaks: false });
        break;
      case "Lag":
        this.#lose(event.side ?? "user", event.dropped ?? 0, at);
        break;
      case "SessionStarted":
        write("talking-to", event.model ?? "");
        write("lag", "0 s");
    }
  }

  #lose(side: "user" | "agent" | "transcript", seconds: number, at: number): void {
    if (side === "transcript") return; // nothing of the call itself was lost
    this.#lost += seconds;
    write("lag", `${this.#lost.toFixed(2)} s`);
    this.#timeline.lose(seconds, at);
    const whose = side === "user" ? "of your voice did not reach it" : "of its voice did not reach you";
    this.know({ lost: `${seconds.toFixed(1)} s ${whose} in time.` });
    clearTimeout(this.#forgetting);
    this.#forgetting = window.setTimeout(() => this.know({ lost: "" }), LOSS_SHOWN);
  }

  buffered(state: BufferState): void {
    write("buffer", `${Math.round(state.seconds * 1000)} ms`);
    write("drift", `${(state.correction * 100).toFixed(2)} %`);
  }

  roundTrip(milliseconds: number): void {
    write("network", `${Math.round(milliseconds)} ms`);
  }

  ended(problem: CallError | null): void {
    const happened = this.#now.phase === "talking";
    clearTimeout(this.#forgetting);
    this.#words.endTurn();
    this.#timeline.stop();
    this.know({ ...QUIET, kind: this.#now.kind, phase: happened ? "over" : "idle" });
    this.#finished(problem);
  }

  /** Says of each side what it does, beside its lane. */
  #tellSides(): void {
    const { phase, muted, userSpeaks, agentSpeaks } = this.#now;
    const talking = phase === "talking";
    const user = muted ? "muted" : userSpeaks ? "speaking" : "quiet";
    write("user-speaks", talking ? user : "");
    write("agent-speaks", talking ? (agentSpeaks ? "speaking" : "listening") : "");
  }
}
