"""Implementations of :class:`duplex.frame_model.FrameModel`, one package for each framework."""
