// The time line: both voices and the words of both on one axis, the user's above, the agent's below, and now at the right.
//
// It begins with a few seconds and takes in more until all that fits is shown; then it scrolls. Where motion is unwelcome
// it is drawn twice a second and turns over like a page. Nothing of the page is measured while it is drawn.

import { Captions } from "./captions";
import { SmoothClock } from "./clock";
import { BAR, Envelope } from "./envelope";
import {
  type Look,
  type Mark,
  type Side,
  drawAxis,
  drawBars,
  drawMarks,
  drawMuted,
  drawNow,
  drawWords,
  readLook,
} from "./drawing";

/** Seconds shown when a call begins. */
const FIRST_SECONDS = 4;
/** Where now is, as a share of the width: the word that is being said stands right of it. */
const NOW = 0.86;
/** Seconds that a word and its sound may lie apart. */
const ASIDE = 0.25;
/** Seconds of which losses are told together. */
const TOGETHER = 3;
/** Milliseconds between two pictures where motion is unwelcome. */
const STILL = 500;

export class Timeline {
  readonly #voices = { user: new Envelope(), agent: new Envelope() };
  readonly #captions: Record<Side, Captions>;
  /** When the user was muted, in seconds; the last one may have no end yet. */
  readonly #muted: { from: number; to: number }[] = [];
  readonly #marks: Mark[] = [];
  readonly #clock = new SmoothClock();
  readonly #still = matchMedia("(prefers-reduced-motion: reduce)");
  readonly #context: CanvasRenderingContext2D;
  #look: Look;
  #running = false;
  #drawn = -Infinity;

  constructor(readonly canvas: HTMLCanvasElement) {
    this.#context = canvas.getContext("2d")!;
    this.#look = readLook(canvas);
    const measure = (text: string) => {
      this.#context.font = this.#look.font;
      return this.#context.measureText(text).width;
    };
    this.#captions = { user: new Captions(measure), agent: new Captions(measure) };
    new ResizeObserver(() => this.#resize()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#resize());
  }

  /** Begins a new conversation. */
  start(): void {
    for (const side of ["user", "agent"] as const) {
      this.#voices[side].clear();
      this.#captions[side].clear();
    }
    this.#muted.length = this.#marks.length = 0;
    this.#clock.reset();
    this.#running = true;
    requestAnimationFrame((now) => this.#tick(now));
  }

  /** Stops, and leaves the picture as it is. */
  stop(): void {
    this.#running = false;
    this.draw(this.#clock.read(performance.now() / 1000));
  }

  /** Takes the level of a piece of the user's voice; it is also the clock of the conversation. */
  hearUser(level: number, seconds: number, muted: boolean): void {
    const voice = this.#voices.user;
    const last = this.#muted.at(-1);
    if (muted && last && last.to >= voice.end - BAR) last.to = voice.end + seconds;
    else if (muted) this.#muted.push({ from: voice.end, to: voice.end + seconds });
    voice.add(level, seconds);
    this.#clock.note(voice.end, performance.now() / 1000);
  }

  hearAgent(levels: number[], seconds: number): void {
    for (const level of levels) this.#voices.agent.add(level, seconds / levels.length);
  }

  /** Takes a piece of what a side says, at its time in the conversation. */
  say(side: Side, piece: string, at: number): void {
    this.#captions[side].add(piece, at);
    // Sound has no times of its own, but a word comes with it: where frames were lost, what comes now belongs here.
    const voice = this.#voices.agent;
    if (side === "agent" && at > voice.end + ASIDE) voice.skipTo(at);
  }

  /** Notes that so many seconds of sound were lost; what is lost soon after is added to it. */
  lose(seconds: number, at: number): void {
    const last = this.#marks.at(-1);
    if (last && at - last.at < TOGETHER) last.seconds += seconds;
    else this.#marks.push({ at, seconds });
  }

  #tick(now: number): void {
    if (!this.#running) return;
    if (!this.#still.matches || now - this.#drawn >= STILL) {
      this.#drawn = now;
      this.draw(this.#clock.read(performance.now() / 1000));
    }
    requestAnimationFrame((next) => this.#tick(next));
  }

  #resize(): void {
    this.#look = readLook(this.canvas);
    this.canvas.width = Math.round(this.#look.width * this.#look.density);
    this.canvas.height = Math.round(this.#look.height * this.#look.density);
    for (const captions of Object.values(this.#captions)) captions.layOut(this.#look.scale, this.#look.gap);
    this.draw(this.#clock.read(performance.now() / 1000));
  }

  /** The seconds that are shown, and how wide one is, when it is `now`. */
  #view(now: number): { from: number; scale: number } {
    const { width, scale } = this.#look;
    const seconds = (width * NOW) / scale;
    if (this.#still.matches) return { from: Math.max(0, Math.floor((2 * now) / seconds) - 1) * (seconds / 2), scale };
    const shown = Math.min(seconds, Math.max(FIRST_SECONDS, now));
    return { from: Math.max(0, now - shown), scale: (width * NOW) / shown };
  }

  draw(now: number): void {
    const { width, height, density } = this.#look;
    if (!width || !height) return;
    const context = this.#context;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, width, height);
    const view = { ...this.#look, ...this.#view(now), now };
    drawAxis(context, view);
    drawMuted(context, view, this.#muted);
    drawNow(context, view);
    for (const side of ["user", "agent"] as const) {
      drawBars(context, view, side, this.#voices[side]);
      drawWords(context, view, side, this.#captions[side].words);
    }
    drawMarks(context, view, this.#marks);
  }
}
