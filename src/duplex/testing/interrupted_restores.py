"""The part of the conformance suite that is about restoring in pieces, between which neighbours go on."""

from duplex.frame_model import FrameModel
from duplex.testing.tracks import (
    OPTIONS,
    Float32,
    Track,
    expect_same,
    pieces_of_restore,
    read_state,
    run_conversation,
    run_frames,
)

__all__ = ["check_interrupted_restores"]


def check_interrupted_restores(model: FrameModel, alone: Track, heard: Float32, tolerance: float) -> None:
    """Check that what happens between two pieces of a restore changes neither it nor what happens.

    ``alone`` is the conversation that a slot has with ``heard``. After every piece slot 0 hears a frame, and slot 2 is
    opened; a restore that ends early is forgotten.

    :raises AssertionError: if a conversation says anything else than alone
    """
    half = len(heard) // 2
    model.open(1, OPTIONS)
    moved = run_frames(model, 1, heard[:half], Track())
    state = read_state(model.export(1))
    model.open(0, OPTIONS)
    neighbour, frames = Track(), list(heard)
    for _ in pieces_of_restore(model, 1, state):
        model.open(2, OPTIONS)
        run_frames(model, 0, frames[:1], neighbour)
        del frames[:1]
    run_frames(model, 0, frames, neighbour)
    expect_same(alone, neighbour, tolerance, "beside a slot that was being restored")
    run_frames(model, 1, heard[half:], moved)
    expect_same(alone, moved, tolerance, "restored while neighbours were stepped and opened")
    next(pieces_of_restore(model, 1, state), None)
    again = run_conversation(model, 1, heard)
    expect_same(alone, again, tolerance, "in a slot whose restore had not been run to its end")
