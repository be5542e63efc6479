// Words on the time line: each where it is said, in one of two rows, so that no two overlap.
//
// 1. A word goes on in the row of the one before, be it a little late.
// 2. Where it would be too late, it begins the other row, if that is free sooner.
// 3. A piece without a space before it belongs to the word before, unless that was long ago.

/** Seconds that a word may stand too late, for the sake of staying in its row. */
const LATE = 1;
/** Seconds after which a piece is a word of its own, whatever it begins with. */
const PAUSE = 1;
export const ROWS = 2;

export interface Caption {
  text: string;
  /** When it is said, in seconds, and where it stands. */
  at: number;
  shown: number;
  row: number;
  width: number;
}

export class Captions {
  readonly words: Caption[] = [];
  #free = new Array<number>(ROWS).fill(0);
  #row = 0;
  #measure: (text: string) => number;
  /** Pixels of a second, and between two words. */
  #scale = 1;
  #gap = 0;

  constructor(measure: (text: string) => number) {
    this.#measure = measure;
  }

  /** Takes a piece of what is said; one that begins with a space begins a word. */
  add(piece: string, at: number): void {
    const last = this.words.at(-1);
    const text = piece.trim();
    if (!text) return;
    if (last && !/^\s/.test(piece) && at - last.at < PAUSE) {
      last.text += text;
      this.#free[last.row] = this.#fit(last);
    } else this.#place({ text, at, shown: at, row: 0, width: 0 });
  }

  /** Places all words anew: the picture has another size. */
  layOut(scale: number, gap: number): void {
    this.#scale = scale;
    this.#gap = gap;
    this.#free.fill(0);
    this.#row = 0;
    for (const word of this.words.splice(0)) this.#place(word);
  }

  clear(): void {
    this.words.length = 0;
    this.#free.fill(0);
    this.#row = 0;
  }

  #place(word: Caption): void {
    const other = (this.#row + 1) % ROWS;
    const late = this.#free[this.#row]! - word.at;
    if (late > LATE && this.#free[other]! < this.#free[this.#row]!) this.#row = other;
    else if (this.#free.every((free) => free <= word.at)) this.#row = 0;
    word.row = this.#row;
    word.shown = Math.max(word.at, this.#free[word.row]!);
    this.#free[word.row] = this.#fit(word);
    this.words.push(word);
  }

  /** Measures a word; returns when its row is free again. */
  #fit(word: Caption): number {
    word.width = this.#measure(word.text);
    return word.shown + (word.width + this.#gap) / this.#scale;
  }
}
