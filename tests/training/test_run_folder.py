"""The folder of a training, beside what the trainings themselves show."""

import torch

from duplex.training.run_folder import RunFolder


def test_what_a_killed_run_left_is_cleared(tmp_path):
    """A checkpoint may be gigabytes, and a machine may be taken away every hour."""
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    RunFolder(out, {}, data=data).save({"step": 1})
    left, others = out / "checkpoint.pt.01234567.part", out / "mine.part"
    for path in (left, others):
        path.write_bytes(bytes(1000))
    assert RunFolder(out, {}, data=data).load(torch.device("cpu")) == {"step": 1}
    assert not left.exists()
    assert others.exists()
