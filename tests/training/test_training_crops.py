"""What the codec is shown: which shards, where in them, how loud, and what the teacher says of that place."""

import attrs
import numpy as np
import pytest

from cli_support import RATE
from duplex.errors import CorpusError, UsageError
from duplex.training import CodecSettings
from duplex.training.codec.crops import CropSampler
from duplex.training.data.corpus import Corpus, write_shard
from training_support import FRAME, QUICK, some_corpus, some_shard

FRAMES = 60
ROLES = {"heart": "agent", "slt": "user", "awb": "user"}


def constant(value, frames=FRAMES):
    return np.full(frames * FRAME, value, np.int16)


def corpus_of(folder, sounds, taught=False):
    """Write shards of the given sounds, by their names ``voice-number``, and open them."""
    folder.mkdir(exist_ok=True)
    for name, pcm in sounds.items():
        voice = name.partition("-")[0]
        targets = np.random.default_rng(len(name)).standard_normal((len(pcm) // FRAME, 3)).astype(np.float16)
        shard = some_shard(voice=voice, role=ROLES[voice], pcm=pcm, targets=targets if taught else None)
        write_shard(folder / f"{name}.safetensors", shard)
    return Corpus.open(folder, RATE)


def settings(**changes):
    return attrs.evolve(QUICK, **{"batch": 50, "crop_frames": 2, **changes})


def test_crops_depend_on_the_seed_the_step_and_the_process(tmp_path):
    corpus = Corpus.open(some_corpus(tmp_path / "data"), RATE)
    crops, again = (CropSampler(corpus, settings(), FRAME) for _ in range(2))
    pcm, teacher = crops.batch(3)
    assert pcm.shape == (50, 2 * FRAME)
    assert teacher.shape == (50, 2, 8)
    assert pcm.dtype == teacher.dtype == np.float32
    again.batch(2)  # what was drawn before does not matter
    assert all(np.array_equal(*pair) for pair in zip((pcm, teacher), again.batch(3), strict=True))
    others = [crops.batch(4), crops.batch(3, rank=1), CropSampler(corpus, settings(seed=1), FRAME).batch(3)]
    assert not any(np.array_equal(pcm, other) for other, _ in others)
    assert np.array_equal(crops.validation(0)[0], CropSampler(corpus, settings(seed=1), FRAME).validation(0)[0])
    assert not np.array_equal(crops.validation(0)[0], crops.validation(1)[0])


def test_what_is_for_validation_is_never_trained_on(tmp_path):
    """The sign tells the last shards of voices that have several from all others."""
    names = ["heart-0", "heart-1", "slt-0", "slt-1", "slt-2", "awb-0"]
    kept = {"heart-1", "slt-2"}
    corpus = corpus_of(tmp_path / "data", {name: constant(-3000 if name in kept else 3000) for name in names})
    crops = CropSampler(corpus, settings(), FRAME)
    assert all((crops.batch(step)[0] > 0).all() for step in range(20))
    assert all((crops.validation(index)[0] < 0).all() for index in range(20))


def test_a_shard_that_is_too_short_is_not_drawn_from(tmp_path):
    sounds = {"heart-0": constant(3000), "slt-0": constant(3000), "slt-1": constant(-3000, frames=5)}
    crops = CropSampler(corpus_of(tmp_path / "data", sounds), settings(crop_frames=6), FRAME)
    assert (crops.batch(0)[0] > 0).all()
    with pytest.raises(CorpusError, match="has no shard of 61 frames"):
        CropSampler(corpus_of(tmp_path / "data", {}), settings(crop_frames=61), FRAME)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_agent_has_its_share(tmp_path, share):
    """However long the shards are: the agent's have another sign."""
    sounds = {"heart-0": constant(3000, 500), "slt-0": constant(-3000, 20), "awb-0": constant(-3000)}
    crops = CropSampler(corpus_of(tmp_path / "data", sounds), settings(agent_share=share), FRAME)
    drawn = np.concatenate([crops.batch(step)[0][:, 0] > 0 for step in range(20)])
    assert drawn.mean() == pytest.approx(share, abs=0.05)


def test_shards_are_drawn_from_by_their_length(tmp_path):
    sounds = {"slt-0": constant(3000, 90), "awb-0": constant(-3000, 30)}
    crops = CropSampler(corpus_of(tmp_path / "data", sounds), settings(), FRAME)  # no agent: users stand in
    drawn = np.concatenate([crops.batch(step)[0][:, 0] > 0 for step in range(20)])
    assert drawn.mean() == pytest.approx(0.75, abs=0.05)


def test_levels_differ_within_full_scale(tmp_path):
    loud = constant(20000)
    loud[::2] = -32768
    sounds = {"heart-0": constant(3000), "slt-0": constant(-3000)}
    quiet = CropSampler(corpus_of(tmp_path / "quiet", sounds), settings(), FRAME)
    first = np.concatenate([quiet.batch(step)[0][:, 0] for step in range(20)]) / (3000 / 2**15)
    decibels = {"agent": 20 * np.log10(first[first > 0]), "user": 20 * np.log10(-first[first < 0])}
    for role, lowest, highest in (("agent", -3, 3), ("user", -15, 9)):
        assert lowest - 0.01 < decibels[role].min() < lowest + 1
        assert highest - 1 < decibels[role].max() < highest + 0.01
    drawn = CropSampler(corpus_of(tmp_path / "loud", {"slt-0": loud}), settings(), FRAME).batch(0)[0]
    assert np.abs(drawn).max(axis=1).max() == pytest.approx(0.98, abs=1e-5)
    assert (np.ptp(drawn.reshape(50, -1, 2), axis=1) == 0).all()  # made softer, not clipped


def test_what_the_teacher_says_is_of_the_same_place(tmp_path):
    """Every frame is as loud as its number, so that a crop tells where it is from, at whatever level."""
    pcm = np.repeat(np.arange(1, 801), FRAME).astype(np.int16) * 30
    corpus = corpus_of(tmp_path / "data", {"slt-0": pcm}, taught=True)
    crops = CropSampler(corpus, settings(), FRAME)
    sound, told = crops.batch(0)
    levels = sound[:, ::FRAME].astype(np.float64)
    places = np.rint(1 / (levels[:, 1] / levels[:, 0] - 1)).astype(int) - 1
    near = places < 150  # where numbers are far enough from each other
    assert near.sum() > 3
    targets = corpus.shards[0].targets.astype(np.float64)
    for place, row in zip(places[near], told[near, 0], strict=True):
        mean = targets[place % 375 :: 375].mean(axis=0)  # of what the teacher says at that place of its windows
        np.testing.assert_allclose(row * crops._scale, targets[place] - mean, atol=1e-3)


def test_features_are_centred_and_scaled(tmp_path):
    corpus = Corpus.open(some_corpus(tmp_path / "data", seconds=8.0), RATE)
    told = np.concatenate([CropSampler(corpus, settings(), FRAME).batch(step)[1].reshape(-1, 8) for step in range(20)])
    assert np.abs(told.mean(axis=0)).max() < 0.3
    assert 0.5 < told.std(axis=0).min() <= told.std(axis=0).max() < 2


# Settings


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"batch": 0}, {"crop_frames": 1}, {"learning_rate": -1e-4}, {"teacher_weight": float("nan")}],
    ids=str,
)
def test_settings_that_cannot_be(wrong):
    (name,) = wrong
    with pytest.raises(UsageError, match=f"'{name}' is .*; give .* or more"):
        CodecSettings(**wrong)


def test_the_learning_rate_rises_and_falls():
    chosen = CodecSettings(steps=1000, warmup=100, learning_rate=1e-3)
    rates = [chosen.learning_rate_at(step) for step in range(1000)]
    assert rates[:100] == sorted(rates[:100])
    assert rates[99] == max(rates) == 1e-3
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert rates[0] == pytest.approx(1e-5)
    assert rates[-1] == pytest.approx(2e-5, rel=0.05)
    assert CodecSettings(steps=10, warmup=0).learning_rate_at(10) > 0


def test_the_share_of_crops_that_are_not_quantized():
    chosen = CodecSettings(steps=1000, plain_steps=100, plain_share=0.3)
    assert [chosen.plain_share_at(step) for step in (0, 99, 100, 749, 750, 999)] == [1, 1, 0.3, 0.3, 0, 0]
