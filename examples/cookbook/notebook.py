# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---
# %% [markdown]
"""# A conversation in a notebook.

Open this file in Jupyter (`jupytext --to ipynb notebook.py`, or VS Code as it is), or run it: `python notebook.py`.
A notebook has an event loop of its own, in which one could `await`; the portal works in both.
"""

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from anyio.from_thread import start_blocking_portal

import duplex

QUESTION = Path(duplex.__file__).parents[2] / "examples" / "question.wav"  # or a recording of yours
QUESTION = Path("question.wav") if Path("question.wav").exists() else QUESTION

# %% [markdown]
# Load the model, and let it hear the recording. A list of all events is what one wants to look at.

# %%
model = duplex.load("tiny")


async def converse() -> list[duplex.Event]:
    """Return all that happens."""
    async with duplex.Conversation(model, duplex.FileTransport(QUESTION)) as conversation:
        return [event async for event in conversation]


with start_blocking_portal() as portal:
    events = portal.call(converse)
print(events[0].model, "-", len(events), "events")

# %% [markdown]
# Its words, and when each is said.

# %%
words = [(event.at, event.text) for event in events if isinstance(event, duplex.AgentText)]
print("".join(text for _, text in words).strip())

# %% [markdown]
# Its voice: to look at, and, in a notebook, to listen to.

# %%
voice = np.concatenate([event.pcm for event in events if isinstance(event, duplex.AgentAudio)])
seconds = np.arange(len(voice)) / model.spec.sample_rate
figure, axes = plt.subplots(figsize=(9, 2))
axes.plot(seconds, voice, linewidth=0.3)
for at, text in words:
    axes.annotate(text.strip(), (at, 0.6 * voice.max()), rotation=45, fontsize=8)
axes.set_xlabel("seconds")
figure.savefig("voice.png", bbox_inches="tight")
print(f"{len(voice) / model.spec.sample_rate:.2f} seconds, the loudest sample {np.abs(voice).max():.2f}")

# %%
if "get_ipython" in globals():
    from IPython.display import Audio, display

    display(Audio(voice, rate=model.spec.sample_rate))

# %%
model.close()
