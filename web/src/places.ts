// Where a call is opened: at this page's server, or where a cluster says that there are places.

import { CallError, UNKNOWN_TOKEN, UNREACHABLE, ending, ticketProblem } from "./problems";

/** A server, by the address of its page, empty for that of this one; and what lets the call in, if it must be shown. */
export interface Place {
  url: string;
  ticket: string;
  /** When the ticket is out of date, on the page's clock in milliseconds. */
  until: number;
}

const NO_PLACE = 1013;

/** The servers that a cluster names, best first; `at` is the one that has the call, if there is a call. */
export async function fetchPlaces(token: string, at: string, signal: AbortSignal): Promise<Place[]> {
  const address = new URL("api/place", document.baseURI);
  if (at) address.searchParams.set("at", new URL(at).origin);
  const answer = await post(address, token, signal);
  if (answer.status === 503) throw ending(NO_PLACE, ((await answer.json()) as { error: string }).error);
  if (!answer.ok) throw ticketProblem(answer.status);
  const { places, seconds } = (await answer.json()) as { places: Place[]; seconds: number };
  const until = performance.now() + 1000 * seconds;
  return places.map(({ url, ticket }) => ({ url: `${url}/`, ticket, until }));
}

/** The server at `base`, with a ticket of its own if it wants one. */
export async function placeAt(base: string, token: string, signal: AbortSignal): Promise<Place> {
  if (!token) return { url: base, ticket: "", until: Infinity };
  const answer = await post(new URL("api/ticket", base || document.baseURI), token, signal);
  if (!answer.ok) throw ticketProblem(answer.status);
  const { ticket } = (await answer.json()) as { ticket: string };
  return { url: base, ticket, until: Infinity };
}

async function post(address: URL, token: string, signal: AbortSignal): Promise<Response> {
  const headers = authorization(token);
  try {
    return await fetch(address, { method: "POST", headers, signal });
  } catch (problem) {
    throw problem instanceof CallError ? problem : UNREACHABLE;
  }
}

function authorization(token: string): Headers {
  try {
    return new Headers(token ? { Authorization: `Bearer ${token}` } : {});
  } catch {
    // It has letters that no header can carry.
    throw UNKNOWN_TOKEN;
  }
}
