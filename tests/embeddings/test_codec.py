from __future__ import annotations

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st

from rs05bench.embeddings.vectors import DecodeEmbedding, decode, decode_tensor, encode, normalise, pool
from rs05bench.errors import DataError
from tests.embeddings.tiles import BANDS, vectors

EVERY_BYTE = np.arange(-128, 128).astype(np.int8)


def formula(q):
    q = np.asarray(q, dtype=np.float64)
    return np.sign(q) * (q / 127.5) ** 2


def test_every_byte_is_decoded_by_the_published_formula():
    np.testing.assert_allclose(decode(EVERY_BYTE)[1:], formula(EVERY_BYTE)[1:], atol=6e-8)
    assert decode(EVERY_BYTE).dtype == np.float32


def test_the_mask_is_nan_and_not_minus_1_0079():
    assert np.isnan(decode(EVERY_BYTE)[0])
    assert abs(formula(-128)) > 1.0078  # what decoding before masking would give
    assert decode(np.array([-128], dtype=np.int8), masked=0.0)[0] == 0


def test_every_byte_survives_decoding_and_encoding():
    np.testing.assert_array_equal(encode(decode(EVERY_BYTE)), EVERY_BYTE)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=64))
def test_encoding_is_the_nearest_byte(values):
    x = np.array(values)
    distance = np.abs(np.sqrt(np.abs(x)) * np.sign(x) * 127.5 - encode(x).astype(float))
    assert (distance <= 0.5 + 1e-6).all() | (np.abs(x) > formula(127)).any()


def test_encoding_is_clipped_so_that_it_never_gives_the_mask():
    np.testing.assert_array_equal(encode([-1.0, 1.0, -5.0, 5.0]), [-127, 127, -127, 127])


def test_a_vector_with_a_gap_is_masked_whole():
    x = np.full((64, 2), 0.125)
    x[7, 1] = np.nan
    assert (encode(x, axis=0)[:, 1] == -128).all()
    assert (encode(x, axis=0)[:, 0] != -128).all()


def test_the_linear_decode_of_some_documents_points_elsewhere():
    q = vectors(40, 40)
    true, linear = formula(q), q / 127.0
    cosine = (true * linear).sum(0) / np.linalg.norm(true, axis=0) / np.linalg.norm(linear, axis=0)
    ours = (true * decode(q)).sum(0) / np.linalg.norm(true, axis=0) / np.linalg.norm(decode(q), axis=0)
    assert cosine.mean() < 0.98
    np.testing.assert_allclose(ours, 1, atol=1e-6)


@pytest.mark.parametrize("wrong", [np.zeros(3, np.uint8), np.zeros(3, np.int16), np.zeros(3, np.float32)])
def test_decoding_anything_but_int8_is_refused(wrong):
    with pytest.raises(DataError, match="expected int8"):
        decode(wrong)


def test_encoding_bytes_again_is_refused():
    with pytest.raises(DataError, match="floating point"):
        encode(np.zeros(3, np.int8))


@pytest.mark.parametrize("shape", [(0,), (64, 1, 1), (64, 256, 256), (3, 64, 33, 31)])
def test_decoding_into_a_given_array(shape):
    q = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    out = np.empty(shape, np.float32)
    assert decode(q, out=out) is out
    np.testing.assert_allclose(out[q != -128], formula(q)[q != -128], atol=6e-8)


def test_decoding_a_turned_view():
    q = vectors(9, 7)[:, ::-1, ::2]
    np.testing.assert_allclose(decode(q), formula(q), atol=6e-8)


def test_decoded_vectors_have_length_one():
    length = np.linalg.norm(decode(vectors(50, 50)), axis=0)
    assert length.min() > 0.98
    assert length.max() < 1.02


def test_a_larger_pixel_is_the_normalised_mean_of_decoded_vectors():
    q = vectors(8, 8)
    q[:, 0, 0] = -128
    mean = np.nanmean(np.where(q[:, :4, :4] == -128, np.nan, formula(q[:, :4, :4])), axis=(1, 2))
    np.testing.assert_allclose(pool(q, 4)[:, 0, 0], mean / np.linalg.norm(mean), atol=1e-6)
    # The mean of the bytes points elsewhere: that is why it is never taken.
    of_bytes = formula(q[:, 4:, 4:].astype(float).mean(axis=(1, 2)))
    assert (of_bytes / np.linalg.norm(of_bytes)) @ pool(q, 4)[:, 1, 1] < 0.99


def test_a_larger_pixel_without_any_valid_one_is_masked():
    q = vectors(4, 4)
    q[:, :2, :2] = -128
    assert np.isnan(pool(q, 2)[:, 0, 0]).all()
    assert not np.isnan(pool(q, 2)[:, 1, 1]).any()


def test_a_zero_vector_has_no_direction():
    assert np.isnan(normalise(np.zeros((64, 1)))).all()


def test_tensors_are_decoded_to_the_same_values():
    import torch

    q = vectors(20, 20)
    q[:, 3, 4] = -128
    np.testing.assert_array_equal(decode_tensor(torch.from_numpy(q)).numpy(), decode(q))
    turned = torch.from_numpy(q).permute(1, 2, 0)
    np.testing.assert_allclose(decode_tensor(turned).numpy(), decode(q).transpose(1, 2, 0), atol=1e-7)


@pytest.mark.gpu
def test_tensors_are_decoded_on_their_device():
    import torch

    q = vectors(20, 20)
    decoded = decode_tensor(torch.from_numpy(q).cuda())
    assert decoded.is_cuda
    np.testing.assert_allclose(decoded.cpu().numpy(), decode(q), atol=1e-7)


def test_the_transform_decodes_bytes_and_leaves_floats():
    import torch

    q = torch.from_numpy(vectors(4, 4))
    sample = DecodeEmbedding()({"image": q, "mask": torch.ones(4, 4)})
    assert sample["image"].dtype == torch.float32
    assert DecodeEmbedding()(sample)["image"] is sample["image"]
    with pytest.raises(DataError, match="int8"):
        decode_tensor(torch.zeros(3, dtype=torch.int32))


@pytest.mark.real
def test_a_real_float_export_holds_exactly_the_decoded_bytes(real):
    with rasterio.open(real("aef_chip") / "aef_wisconsin_2024_64band.tif") as file:
        values, names = file.read(), file.descriptions
    assert names == BANDS
    np.testing.assert_allclose(decode(encode(values)), values, atol=3e-8)
    length = np.linalg.norm(decode(encode(values)), axis=0)
    assert 0.99 < length.min() <= length.max() < 1.01
