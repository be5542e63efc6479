// What can go wrong with a call, and what to do about it.

/** Why a call did not come about, or ended, and what to do. */
export class CallError extends Error {}

export const UNREACHABLE = "The server cannot be reached. Is it running? Reload the page and try again.";
export const LOST = "The connection was lost. Check your network and press Talk to call again.";
export const UNPLUGGED = "The microphone is gone. Plug it in again or choose another, then press Talk to call again.";
export const PAUSED = "The device has paused the sound, perhaps for a phone call. Press Talk to call again when that is over.";
export const UNKNOWN_TOKEN = "The server does not know this token. Check it and try again.";

/** What to do when the server gives no ticket; `status` is that of its answer. */
export function ticketAdvice(status: number): string {
  if (status === 401) return UNKNOWN_TOKEN;
  if (status === 403) return "The server does not let you in from here (403). Ask whoever runs it to allow it.";
  if (status === 429) return "The server has had too many calls from here (429). Wait a minute, then press Talk again.";
  if (status >= 500) return `The server is in trouble (${status}). Press Talk again in a minute, or tell whoever runs it.`;
  return `This page does not understand the server's answer (${status}). Reload the page and try again.`;
}

/** What to do when there is no sound; `problem` is what the browser threw. */
export function soundAdvice(problem: unknown): string {
  const name = problem instanceof DOMException ? problem.name : "";
  if (!navigator.mediaDevices) return "Browsers give a microphone only to pages over HTTPS. Start the server with --tls.";
  if (name === "NotAllowedError") return "The microphone was refused. Allow it in the address bar, then press Talk again.";
  if (name === "NotFoundError") return "There is no microphone. Plug one in, then press Talk again.";
  if (name === "NotReadableError") return "Another program uses the microphone. Close it, then press Talk again.";
  if (name === "NotSupportedError")
    return "The microphone and the loudspeaker run at different rates, which this browser cannot join. Use one device for both, or another browser.";
  return `Sound does not work in this browser (${String(problem)}). Try a newer one.`;
}

/** What to do when a codec of the browser has failed. */
export function codingAdvice(problem: DOMException): string {
  return `The browser failed to code the sound (${problem.message}). Press Talk to call again, or try another browser.`;
}
