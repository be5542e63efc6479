"""Speech synthesis on the torch backend, below its frame model: numbers in, numbers out."""

import json

import torch
from family_support import config_of

from duplex.backends.shared.prefilling import LONGEST_RUN
from duplex.backends.torch.loading import load_language_model
from duplex.backends.torch.sampling import Sampling
from duplex.backends.torch.speech_script import SpeechScript
from duplex.backends.torch.state import Call, SlotState, bind

CPU = torch.device("cpu")


def allocated(declared, slots):
    return SlotState.allocate(declared, slots, dtype=torch.float32, device=CPU)


class Script:
    """The script alone, of so many slots."""

    def __init__(self, settings, slots):
        self.script = SpeechScript(settings, torch.zeros(6, dtype=torch.int64))
        self.state = allocated({f"lm.{name}": spec for name, spec in self.script.state_spec().items()}, slots)
        self.slots = slots

    def begin(self, slot, prefix=0):
        self.script.begin(self.state.rows(slot, slot + 1), "lm", prefix=prefix)

    def say(self, slot, entries):
        self.script.say(self.state.rows(slot, slot + 1), "lm", entries)

    def text(self, sampled, step):
        """Return what each slot says for what was sampled for it."""
        steps = torch.full((self.slots,), step)
        return self.script.text(torch.tensor(sampled), steps, Call(self.state), "lm").tolist()


@torch.inference_mode()
def spoken(folder, settings, entries, options, conditions, *, steps, streams=None):
    """Return the tokens of the time steps that so many steps complete, int64 ``[streams, n]``."""
    mapping = json.loads((folder / "config.json").read_text())
    guided = options.guidance not in (None, 1)
    weights = folder / mapping["moshi_name"]
    lm = load_language_model(config_of(mapping), weights, dtype=torch.float32, device=CPU, guidance=guided)
    lm.script = script = SpeechScript(settings, lm.delays[lm.agent])
    state = allocated(bind(lm, "lm", LONGEST_RUN), 1)
    lm.begin(Call(state), options, conditions)
    script.begin(state, lm.key, streams=streams)
    script.say(state, lm.key, entries)
    made = [lm(None, Call(state), Sampling.of([options])).tokens for _ in range(steps)]
    return torch.cat(made).numpy().T[:, max(lm.config.delays) :]
