// Two lanes, the user's above the agent's, over the last half minute: where both have a bar, both speak.

const SECONDS = 30;
const STEP = 0.08;

/** Columns that come at once where motion is unwelcome: half a second. */
const AT_ONCE = 6;

interface Column {
  user: number;
  agent: number;
}

export class Timeline {
  #columns: Column[] = [];
  #undrawn = 0;
  #still = matchMedia("(prefers-reduced-motion: reduce)");
  #context: CanvasRenderingContext2D;

  constructor(readonly canvas: HTMLCanvasElement) {
    this.#context = canvas.getContext("2d")!;
    new ResizeObserver(() => this.draw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  /** Adds a frame of 80 ms: each side's level, 0 to 1. */
  add(user: number, agent: number): void {
    this.#columns.push({ user, agent });
    if (this.#columns.length > SECONDS / STEP) this.#columns.shift();
    if (++this.#undrawn >= (this.#still.matches ? AT_ONCE : 1)) this.draw();
  }

  clear(): void {
    this.#columns = [];
    this.draw();
  }

  draw(): void {
    this.#undrawn = 0;
    const { canvas } = this;
    const scale = devicePixelRatio;
    const width = (canvas.width = Math.round(canvas.clientWidth * scale));
    const height = (canvas.height = Math.round(canvas.clientHeight * scale));
    const style = getComputedStyle(canvas);
    const lane = height / 2;
    const step = width / (SECONDS / STEP);
    const left = width - this.#columns.length * step;
    const draw = (side: keyof Column, middle: number, color: string) => {
      this.#context.fillStyle = color;
      this.#columns.forEach((column, n) => {
        const size = Math.max(scale, column[side] * lane * 0.85);
        this.#context.fillRect(left + n * step, middle - size / 2, Math.max(1, step - scale * 0.5), size);
      });
    };
    draw("user", lane / 2, style.getPropertyValue("--user"));
    draw("agent", lane * 1.5, style.getPropertyValue("--agent"));
  }
}
