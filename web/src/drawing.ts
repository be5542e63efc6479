// How the time line is drawn: a lane for each side, words at the outer edges, the axis between them.

import type { Caption } from "./captions";
import { BAR, type Envelope } from "./envelope";

export type Side = "user" | "agent";

/** Sound that was lost, in seconds. */
export interface Mark {
  at: number;
  seconds: number;
}

/** What is read from the styles and the size of the canvas, once for each change of them. */
export interface Look {
  width: number;
  height: number;
  /** Pixels of the device for each of the page's. */
  density: number;
  /** Pixels of a second, once the picture is full. */
  scale: number;
  /** Pixels between two words, and of a row of them. */
  gap: number;
  row: number;
  font: string;
  small: string;
  colors: Record<"user" | "agent" | "ink" | "quiet" | "edge" | "bad" | "card", string>;
}

export interface View extends Look {
  from: number;
  now: number;
}

/** Pixels that the labels of the lanes take, above and below. */
const LABEL = 30;
/** Half of what the axis takes. */
const AXIS = 15;
/** Times are not cut off at the edges. */
const EDGE = 14;
const NARROW = 600;

export function readLook(canvas: HTMLCanvasElement): Look {
  const style = getComputedStyle(canvas);
  const width = canvas.clientWidth;
  const size = width < NARROW ? 14 : 16;
  const color = (name: string) => style.getPropertyValue(`--${name}`).trim();
  return {
    width,
    height: canvas.clientHeight,
    density: Math.min(2, devicePixelRatio),
    scale: width < NARROW ? 70 : 96,
    gap: size * 0.3,
    row: size * 1.35,
    font: `500 ${size}px ${style.fontFamily}`,
    small: `12px ${style.fontFamily}`,
    colors: {
      user: color("user"),
      agent: color("agent"),
      ink: color("ink"),
      quiet: color("quiet"),
      edge: color("edge"),
      bad: color("bad"),
      card: color("card"),
    },
  };
}

function x(view: View, at: number): number {
  return (at - view.from) * view.scale;
}

/** The middle of a side's voice, and half of its height. */
function lane(view: View, side: Side): { middle: number; half: number } {
  const half = (view.height / 2 - AXIS - LABEL - 2 * view.row) / 2;
  const away = AXIS + half;
  return { middle: view.height / 2 + (side === "user" ? -away : away), half };
}

/** Hairlines at whole seconds, and the time at every second, or every fifth where they are close. */
export function drawAxis(context: CanvasRenderingContext2D, view: View): void {
  const middle = view.height / 2;
  const labelled = view.scale > 80 ? 1 : 2;
  context.font = view.small;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (let second = Math.max(0, Math.ceil(view.from)); x(view, second) <= view.width; second++) {
    const at = x(view, second);
    context.fillStyle = view.colors.edge;
    context.fillRect(Math.round(at), LABEL, 1, middle - AXIS - LABEL);
    context.fillRect(Math.round(at), middle + AXIS, 1, middle - AXIS - LABEL);
    context.fillStyle = view.colors.quiet;
    if (second % labelled === 0 && at > EDGE && at < view.width - EDGE) context.fillText(clock(second), at, middle);
  }
}

function clock(second: number): string {
  return `${Math.floor(second / 60)}:${String(Math.floor(second % 60)).padStart(2, "0")}`;
}

/** The line that says where now is; the axis between the lanes stays readable. */
export function drawNow(context: CanvasRenderingContext2D, view: View): void {
  const at = x(view, view.now);
  context.fillStyle = view.colors.ink;
  context.globalAlpha = 0.5;
  const lanes = view.height / 2 - AXIS - LABEL;
  context.fillRect(at, LABEL, 1.5, lanes);
  context.fillRect(at, view.height - LABEL - lanes, 1.5, lanes);
  context.globalAlpha = 1;
}

/** A voice: one bar for each stretch of time, dots where it is silent. */
export function drawBars(context: CanvasRenderingContext2D, view: View, side: Side, voice: Envelope): void {
  const { middle, half } = lane(view, side);
  const pitch = BAR * view.scale;
  const width = Math.max(2, Math.min(5, pitch * 0.6));
  const end = Math.min(voice.end, view.now);
  context.fillStyle = view.colors[side];
  context.beginPath();
  for (let bar = Math.max(0, Math.floor(view.from / BAR)); (bar + 0.5) * BAR < end; bar++) {
    const size = Math.max(width, voice.at(bar) * 2 * half);
    context.roundRect((bar + 0.5) * pitch - view.from * view.scale - width / 2, middle - size / 2, width, size, width / 2);
  }
  context.fill();
}

export function drawMuted(context: CanvasRenderingContext2D, view: View, muted: { from: number; to: number }[]): void {
  const { middle, half } = lane(view, "user");
  context.font = view.small;
  context.textAlign = "left";
  context.textBaseline = "top";
  for (const { from, to } of muted) {
    const left = Math.max(0, x(view, from));
    const width = x(view, Math.min(to, view.now)) - left;
    if (width <= 0 || left > view.width) continue;
    context.fillStyle = view.colors.edge;
    context.globalAlpha = 0.6;
    context.fillRect(left, middle - half, width, 2 * half);
    context.globalAlpha = 1;
    context.fillStyle = view.colors.quiet;
    if (width > 50) context.fillText("muted", left + 8, middle - half + 6);
  }
}

/** The words of a side, outside of its voice: the first row beside it. */
export function drawWords(context: CanvasRenderingContext2D, view: View, side: Side, words: Caption[]): void {
  const { middle, half } = lane(view, side);
  const away = side === "user" ? -1 : 1;
  context.font = view.font;
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillStyle = view.colors[side];
  // From the newest back: nobody looks at those that have left the picture.
  for (let n = words.length - 1; n >= 0; n--) {
    const { text, shown, row, width } = words[n]!;
    const left = x(view, shown);
    if (left > view.width) continue;
    if (left + width < -view.width) break;
    context.fillText(text, left, middle + away * (half + view.row * (row + 0.55)));
  }
}

/** What was lost, on the axis. */
export function drawMarks(context: CanvasRenderingContext2D, view: View, marks: Mark[]): void {
  context.font = view.small;
  context.textAlign = "center";
  context.textBaseline = "middle";
  for (const { at, seconds } of marks) {
    const middle = x(view, at);
    const text = `${seconds.toFixed(1)} s lost`;
    const width = context.measureText(text).width + 12;
    if (middle < -width || middle > view.width + width) continue;
    context.fillStyle = view.colors.bad;
    context.beginPath();
    context.roundRect(middle - width / 2, view.height / 2 - 10, width, 20, 10);
    context.fill();
    context.fillStyle = view.colors.card;
    context.fillText(text, middle, view.height / 2 + 0.5);
  }
}
