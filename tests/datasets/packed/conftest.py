from unittest import mock

import pytest

import prkd_mm.datasets.packed.pack_file as packing


@pytest.fixture
def decoded():
    """Function that returns the number of decoded images."""
    with mock.patch.object(
        packing.Originals, 'image', autospec=True, side_effect=packing.Originals.image
    ) as image:
        yield lambda: image.call_count
