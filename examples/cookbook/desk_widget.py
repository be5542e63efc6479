"""A desk widget: a small window that stays on top, with one button, a lamp for each speaker, and the agent's words.

python examples/cookbook/desk_widget.py [QUESTION.wav, in the microphone's place]
"""

import queue
import sys
import threading
import tkinter as tk

import anyio

import duplex

Told = duplex.Event | Exception
OFF, USER, AGENT = "#666666", "#2a5db0", "#b34a1f"


async def converse(model: duplex.Model, file: str | None, told: "queue.Queue[Told]") -> None:
    """Hold a conversation, with the microphone unless there is a file."""
    try:
        line = duplex.FileTransport(file) if file else duplex.MicrophoneTransport()
        async with duplex.Conversation(model, line) as conversation:
            async for event in conversation:
                told.put(event)
    except duplex.DuplexError as error:  # no microphone, for one
        told.put(error)


class Widget(tk.Tk):
    """The window."""

    def __init__(self, model: duplex.Model, file: str | None = None) -> None:
        super().__init__()
        self.title("duplex")
        self.attributes("-topmost", True)
        self._model, self._file, self._told = model, file, queue.Queue[Told]()
        self.button = tk.Button(self, text="Talk", command=self.talk)
        self.button.pack(fill="x", padx=12, pady=8)
        self.lamps = {name: tk.Label(self, text=name, bg=OFF, fg="white", width=16) for name in ("you", "agent")}
        for lamp in self.lamps.values():
            lamp.pack(fill="x", padx=12, pady=2)
        self.words = tk.Label(self, wraplength=260, justify="left", height=4, anchor="nw")
        self.words.pack(fill="both", expand=True, padx=12, pady=8)
        self.after(40, self._look)

    def talk(self) -> None:
        """Begin a conversation."""
        self.button.config(state="disabled", text="It listens")
        self.words.config(text="")
        arguments = (converse, self._model, self._file, self._told)
        threading.Thread(target=anyio.run, args=arguments, daemon=True).start()

    def _look(self) -> None:
        while not self._told.empty():
            self._show(self._told.get())
        self.after(40, self._look)

    def _show(self, told: Told) -> None:
        match told:
            case duplex.UserSpeechStarted() | duplex.UserSpeechStopped():
                self.lamps["you"].config(bg=USER if isinstance(told, duplex.UserSpeechStarted) else OFF)
            case duplex.AgentSpeechStarted() | duplex.AgentSpeechStopped():
                self.lamps["agent"].config(bg=AGENT if isinstance(told, duplex.AgentSpeechStarted) else OFF)
            case duplex.AgentText(text=piece):
                self.words.config(text=self.words["text"] + piece)
            case duplex.SessionEnded(reason=reason) if reason is not duplex.EndReason.FAILED:  # else the error comes
                self.button.config(state="normal", text="Talk again")
            case Exception():
                self.button.config(state="normal", text="Talk")
                self.words.config(text=str(told))
            case _:
                pass


if __name__ == "__main__":
    with duplex.load("tiny") as loaded:
        Widget(loaded, *sys.argv[1:2]).mainloop()
