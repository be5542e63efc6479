// What the page says of the call: every state has words of its own, and they are true as long as they stand there.
//
// | phase      | what happens                                          | the one button |
// |------------|-------------------------------------------------------|----------------|
// | idle       | nothing yet, or a call that did not come about        | start          |
// | asking     | the browser asks for the microphone                   | cancel         |
// | connecting | the server has not let the caller in yet              | cancel         |
// | queued     | others come first                                     | cancel         |
// | talking    | both sides are heard                                  | end            |
// | over       | a call has ended; what was said still stands there    | start          |

export type Phase = "idle" | "asking" | "connecting" | "queued" | "talking" | "over";

export interface Situation {
  phase: Phase;
  /** The model's kind, as in /api/info. */
  kind: string;
  /** How many come before in the queue, and oneself. */
  position: number;
  muted: boolean;
  userSpeaks: boolean;
  agentSpeaks: boolean;
  /** Nothing has come from the microphone since the call began. */
  unheard: boolean;
  /** What was lost a moment ago, "" if nothing was. */
  lost: string;
  /** Whether the connection has broken, and another is being made. */
  broken: boolean;
}

export const QUIET: Situation = {
  phase: "idle",
  kind: "moshi",
  position: 0,
  muted: false,
  userSpeaks: false,
  agentSpeaks: false,
  unheard: false,
  lost: "",
  broken: false,
};

export interface Words {
  /** What styles know the state by. */
  state: string;
  title: string;
  detail: string;
  /** What a screen reader says when it changes; who speaks, which changes all the time, is not in it. */
  said: string;
}

/** What a model does, in an invitation and while it listens. */
const KINDS: Record<string, { title: string; detail: string; listening: string; hint: string; hearing: string }> = {
  stt: {
    title: "Say something",
    detail: "It writes down what you say, while you say it.",
    listening: "It is listening",
    hint: "What you say appears below.",
    hearing: "What you say appears below.",
  },
  hibiki: {
    title: "Speak, it translates",
    detail: "It translates while you speak: there is no need to wait for it.",
    listening: "It is listening",
    hint: "It translates a few words behind you.",
    hearing: "It translates a few words behind you.",
  },
};
const DIALOGUE = {
  title: "Talk with it",
  detail: "It listens even while it speaks: interrupt it whenever you like.",
  listening: "It is listening",
  hint: "Say something. You can talk over it.",
  hearing: "Go on: it listens.",
};

export function wordsFor(now: Situation): Words {
  const own = KINDS[now.kind] ?? DIALOGUE;
  switch (now.phase) {
    case "idle":
      return { state: "idle", title: own.title, detail: own.detail, said: "" };
    case "asking":
      return both("asking", "Allow the microphone", "Your browser is asking. The call begins when you allow it.");
    case "connecting":
      return both("connecting", "Connecting", "Waiting for the server.");
    case "queued": {
      const place = now.position === 1 ? "You are next in the queue" : `You are number ${now.position} in the queue`;
      return both("queued", place, "Stay on this page: the call begins by itself.");
    }
    case "over":
      return both("over", "The conversation is over", "");
    case "talking":
      return talking(now, own);
  }
}

function talking(now: Situation, own: typeof DIALOGUE): Words {
  if (now.broken) {
    const detail = "Calling again: the conversation waits for you.";
    return { state: "lag", title: "The line is broken", detail, said: `The line is broken. ${detail}` };
  }
  if (now.muted) {
    const detail = "It hears silence until you unmute.";
    const title = now.agentSpeaks ? "You are muted, it is speaking" : "You are muted";
    return { state: "muted", title, detail, said: "You are muted." };
  }
  const said = "Connected: it is listening.";
  if (now.lost) return { state: "lag", title: "The line is slow", detail: now.lost, said };
  if (now.userSpeaks && now.agentSpeaks)
    return { state: "both", title: "You are both speaking", detail: "It hears you all the same.", said };
  if (now.agentSpeaks) return { state: "speaking", title: "It is speaking", detail: "Interrupt it whenever you like.", said };
  if (now.userSpeaks) return { state: "hearing", title: "It hears you", detail: own.hearing, said };
  if (now.unheard) {
    const detail = "Is the right microphone chosen, and is it switched on?";
    return { state: "unheard", title: "Your microphone is silent", detail, said: `Your microphone is silent. ${detail}` };
  }
  return { state: "listening", title: own.listening, detail: own.hint, said };
}

function both(state: string, title: string, detail: string): Words {
  return { state, title, detail, said: detail ? `${title}. ${detail}` : `${title}.` };
}
