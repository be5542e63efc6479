// What the server tells of itself at /api/info.

export interface ModelInfo {
  name: string;
  kind: string;
  persona: boolean;
  voices: string[];
  examples: string[];
}

export interface Info {
  /** Whether this is a cluster, which tells at which server there are places. */
  placed?: boolean;
  /** Whether a caller must show a token. */
  token: boolean;
  /** Whether all conversations are recorded. */
  recorded: boolean;
  /** Whether only those are who agree. */
  recording_optional: boolean;
  /** The first is that of callers who do not choose. */
  models: ModelInfo[];
}

/** A server that has not told of itself for so long is not there; browsers wait for minutes. */
const PATIENCE_MILLISECONDS = 20_000;

export async function fetchInfo(): Promise<Info> {
  const attempt = new AbortController();
  const patience = setTimeout(() => attempt.abort(), PATIENCE_MILLISECONDS);
  const answer = await fetch("api/info", { signal: attempt.signal }).finally(() => clearTimeout(patience));
  if (!answer.ok) throw new Error(answer.statusText);
  return (await answer.json()) as Info;
}
