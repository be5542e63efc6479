"""The noise is the published Philox4x32-10, in numpy and torch alike; tokens are chosen from it by the contract."""

import attrs
import numpy as np
import pytest
import torch

from duplex.backends.shared import noise
from duplex.backends.torch import sampling
from duplex.options import SessionOptions

# Random123, kat_vectors, philox4x32 10: counter, key, output.
PUBLISHED = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
# seed, step, stream, index, word: made with philox() below, which the published vectors hold to.
TABLE = [
    (0, 0, 0, 0, 0x6627E8D5),
    (0, 0, 0, 3, 0x9B00DBD8),
    (0, 1, 0, 0, 0xF8E4CCA4),
    (7, 0, 0, 5, 0x2BF6D9AF),
    (7, 1, 1, 2047, 0x144EC1E4),
    (7, 500, 8, 1023, 0x16DBDC60),
    (4294967296, 3, 2, 17, 0xE51D6626),
    (9223372036854775813, 12345, 16, 31999, 0xDFD6146A),
    (18446744073709551615, 2147483648, 3, 6, 0xF5889538),
]


def philox(counter, key):
    """Philox4x32-10 from its paper, on Python's integers."""
    a, b, c, d = counter
    k, m = key
    for _ in range(10):
        left, right = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (right >> 32) ^ b ^ k, right % 2**32, (left >> 32) ^ d ^ m, left % 2**32
        k, m = (k + 0x9E3779B9) % 2**32, (m + 0xBB67AE85) % 2**32
    return a, b, c, d


@pytest.mark.parametrize(("counter", "key", "expected"), PUBLISHED)
def test_published_vectors(counter, key, expected):
    assert philox(counter, key) == expected
    assert tuple(noise.philox4x32(np.array(counter, np.uint32), key[0] | key[1] << 32).tolist()) == expected


def test_many_counters_at_once():
    random = np.random.default_rng(0)
    counters = random.integers(0, 2**32, (50, 4), np.uint32)
    key = (0x12345678, 0x9ABCDEF0)
    expected = [philox(counter, key) for counter in counters.tolist()]
    assert noise.philox4x32(counters, key[0] | key[1] << 32).tolist() == [list(words) for words in expected]


@pytest.mark.parametrize(("seed", "step", "stream", "index", "word"), TABLE)
def test_table(seed, step, stream, index, word):
    expected = ((word >> 8) + 0.5) / 2**24
    assert noise.uniform(seed, step, stream, index + 1)[index] == expected


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1, 2**32, 2**63, 2**64 - 1])
@pytest.mark.parametrize(("step", "stream"), [(0, 0), (1, 0), (12345, 1), (2**31, 16)])
def test_key_and_counter(seed, step, stream):
    u = noise.uniform(seed, step, stream, 11)
    for index in range(11):
        word = philox((step, stream, index // 4, 0), (seed % 2**32, seed >> 32))[index % 4]
        assert u[index] == ((word >> 8) + 0.5) / 2**24


def test_the_vocabulary_size_changes_no_value():
    assert np.array_equal(noise.uniform(5, 6, 7, 9), noise.uniform(5, 6, 7, 2048)[:9])


def test_uniform_is_strictly_inside():
    u = noise.uniform(3, 1, 0, 100_000)
    assert 0 < u.min() < 1e-4
    assert 1 - 1e-4 < u.max() < 1
    assert abs(u.mean() - 0.5) < 0.005


@pytest.mark.parametrize("seed", [0, 7, 2**63 + 11, 2**64 - 1])
def test_torch_draws_the_same(seed):
    steps, sizes = [0, 1, 70000], [37, 16, 16, 5]
    keys = torch.tensor([noise.round_keys(seed)] * len(steps))
    drawn = sampling.gumbel(keys, torch.tensor(steps), sampling.Counters.of(sizes, torch.device("cpu")))
    for row, step in enumerate(steps):
        for stream, size in enumerate(sizes):
            expected = noise.gumbel(seed, step, stream, size)
            np.testing.assert_allclose(drawn[stream][row].numpy(), expected, rtol=2e-7, atol=2e-7)


PADDING = 3


def options(**changes):
    base = SessionOptions(temperature=1.0, text_temperature=1.0, top_k=0, text_top_k=0, seed=0)
    return attrs.evolve(base, **changes)


def choose(logits, rows, step=0):
    """Return the text and the audio (codebook 1) token of each row, by the torch sampler."""
    batch, size = logits.shape
    tensors = {
        name: torch.zeros((batch, *declared.shape), dtype=declared.dtype)
        for name, declared in sampling.Sampler.state_spec().items()
    }
    for row, each in enumerate(rows):
        sampling.Sampler.write({name: tensor[row : row + 1] for name, tensor in tensors.items()}, each)
    counters = sampling.Counters.of([size] * 3, torch.device("cpu"))
    sampler = sampling.Sampler.prepare(tensors, sampling.Sampling.of(rows), torch.full((batch,), step), counters)
    values = torch.from_numpy(logits)
    return sampler.sample_text(values, PADDING).tolist(), sampler.sample_audio(values, 1).tolist()


def test_what_is_added_to_padding_is_each_row_s_own():
    logits = random_logits(3, 20)
    logits[:, PADDING] = logits.max(axis=1) - 1.0
    rows = [options(text_temperature=0.0, padding_bonus=bonus) for bonus in (None, 1.5, 0.5)]
    text, _ = choose(logits, rows)
    others = logits.argmax(axis=1).tolist()
    assert text == [others[0], PADDING, others[2]]
    assert PADDING not in others


def expected_token(logits, temperature, top_k, place):
    """The contract's sentence, in numpy."""
    if temperature == 0:
        return int(logits.argmax())
    scores = logits / temperature + noise.gumbel(*place, len(logits))
    if top_k:
        scores[logits < np.sort(logits)[-min(top_k, len(logits))]] = -np.inf
    return int(scores.argmax())


def random_logits(rows, size, seed=0):
    return np.random.default_rng(seed).normal(0, 2, (rows, size)).astype(np.float32)


def test_each_row_by_its_own_options():
    rows = [
        options(temperature=0.0, text_temperature=0.0),
        options(seed=1, top_k=3, text_top_k=5),
        options(seed=2, temperature=0.5, text_temperature=2.0),
        options(seed=2**64 - 1, temperature=0.0, text_top_k=1),
        options(seed=4, top_k=10_000, text_top_k=2**31),
        options(seed=5, top_k=1, temperature=0.8, text_temperature=0.0),
    ]
    for step in range(20):
        logits = random_logits(len(rows), 50, step)
        text, audio = choose(logits, rows, step)
        for row, each in enumerate(rows):
            place = (each.seed, step)
            assert text[row] == expected_token(logits[row], each.text_temperature, each.text_top_k, (*place, 0))
            assert audio[row] == expected_token(logits[row], each.temperature, each.top_k, (*place, 2))


def test_a_row_does_not_depend_on_its_neighbours():
    logits = random_logits(3, 40)
    rows = [options(seed=9, top_k=4, text_top_k=4), options(temperature=0.0), options(seed=1)]
    together = choose(logits, rows)
    for row, each in enumerate(rows):
        alone = choose(logits[row : row + 1], [each])
        assert ([together[0][row]], [together[1][row]]) == alone


def test_greedy_rows_draw_nothing():
    logits = random_logits(2, 40)
    rows = [options(temperature=0.0, text_temperature=0.0, top_k=3)] * 2
    assert choose(logits, rows) == (logits.argmax(1).tolist(), logits.argmax(1).tolist())


def test_equal_logits_at_the_edge_of_the_top_k_are_all_kept():
    logits = np.zeros((1, 8), np.float32)
    logits[0, 5] = 1
    seen = {choose(logits, [options(seed=seed, text_top_k=2)])[0][0] for seed in range(200)}
    assert seen == set(range(8))


def test_top_k_keeps_the_best_only():
    logits = random_logits(1, 30)
    best = set(np.argsort(logits[0])[-4:].tolist())
    seen = {choose(logits, [options(seed=seed, text_top_k=4, text_temperature=50.0)])[0][0] for seed in range(100)}
    assert seen == best


def test_tokens_come_as_often_as_their_probability():
    logits = np.log(np.array([[0.1, 0.2, 0.3, 0.4]], np.float32))
    counts = np.bincount([choose(logits, [options()], step)[0][0] for step in range(2000)], minlength=4)
    np.testing.assert_allclose(counts / 2000, [0.1, 0.2, 0.3, 0.4], atol=0.04)


def test_a_tiny_temperature_is_finite():
    logits = random_logits(2, 40)
    text, _ = choose(logits, [options(text_temperature=1e-6)] * 2)
    assert text == logits.argmax(1).tolist()
