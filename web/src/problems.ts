// What can go wrong with a call, and what to do about it.

/** Why a call did not come about, or ended, in a few words; the message is what to do. */
export class CallError extends Error {
  constructor(
    readonly title: string,
    advice: string,
  ) {
    super(advice);
  }
}

export const UNREACHABLE = new CallError("The server cannot be reached", "Is it running? Reload the page and try again.");
export const LOST = new CallError("The connection was lost", "Check your network, then start again.");
export const UNPLUGGED = new CallError("The microphone is gone", "Plug it in again or choose another, then start again.");
export const PAUSED = new CallError(
  "The device has paused the sound",
  "Perhaps there is a phone call. Start again when that is over.",
);
export const TOKEN_WANTED = new CallError("This server asks for a token", "Type it in, then start.");
export const UNKNOWN_TOKEN = new CallError("The server does not know this token", "Check it and try again.");
export const NOT_TAKEN = new CallError(
  "The server did not take the call",
  "Reload the page and look at the settings; if that does not help, ask whoever runs it.",
);
export const INSECURE = new CallError(
  "There is no microphone on this page",
  "Browsers give one only to pages over HTTPS. Start the server with --tls.",
);

/** What to do when the server gives no ticket; `status` is that of its answer. */
export function ticketProblem(status: number): CallError {
  if (status === 401) return UNKNOWN_TOKEN;
  if (status === 403)
    return new CallError("The server does not let you in", "It refuses calls from here (403). Ask whoever runs it to allow it.");
  if (status === 429)
    return new CallError("Too many calls came from here", "The server takes no more now (429). Wait a minute, then start again.");
  if (status >= 500)
    return new CallError(`The server is in trouble (${status})`, "Start again in a minute, or tell whoever runs it.");
  const advice = `Its answer (${status}) is not understood. Reload the page and try again.`;
  return new CallError("This page does not fit the server", advice);
}

/** What to do when there is no sound; `problem` is what the browser threw. */
export function soundProblem(problem: unknown): CallError {
  const name = problem instanceof DOMException ? problem.name : "";
  if (!navigator.mediaDevices) return INSECURE;
  if (name === "NotAllowedError")
    return new CallError("The microphone was refused", "Allow it in the address bar, then start again.");
  if (name === "NotFoundError") return new CallError("There is no microphone", "Plug one in, then start again.");
  if (name === "NotReadableError")
    return new CallError("The microphone is in use", "Another program has it. Close that, then start again.");
  if (name === "NotSupportedError")
    return new CallError(
      "Microphone and loudspeaker do not fit",
      "They run at different rates, which this browser cannot join. Use one device for both, or another browser.",
    );
  return new CallError("Sound does not work in this browser", `It says: ${String(problem)}. Try a newer one.`);
}

/** What to do when a codec of the browser has failed. */
export function codingProblem(problem: DOMException): CallError {
  return new CallError(
    "The browser failed to code the sound",
    `It says: ${problem.message}. Start again, or try another browser.`,
  );
}

/** Close codes of /api/chat (docs/reference/wire.md), in a few words. */
const ENDINGS: Record<number, string> = {
  1000: "Time is up",
  1011: "The model failed",
  1012: "The server is restarting",
  1013: "No place is free",
};
/** Servers that cannot send a registered code add this to it. */
const SHIFT = 3000;
/** Close codes for a conversation that cannot be gone back to. */
const GONE = [4404, 4406, 4409, 4413];
const NOT_KEPT = new CallError(
  "The conversation could not be picked up again",
  "The server has it no more; perhaps it was restarted. Start a new one.",
);

/** Why the server has ended a call: its own words, and the code that it closed with. */
export function ending(code: number, text: string): CallError {
  if (GONE.includes(code)) return NOT_KEPT;
  const title = ENDINGS[code > SHIFT ? code - SHIFT : code] ?? "The server ended the call";
  return new CallError(title, `${text.charAt(0).toUpperCase()}${text.slice(1)}.`);
}
