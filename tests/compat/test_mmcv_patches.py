import cv2
import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile

PNG = cv2.imencode('.png', np.full((4, 4, 3), 7, np.uint8))[1].tobytes()


@pytest.mark.parametrize('content', [b'', b'no image', PNG[:30]], ids=['empty', 'text', 'cut'])
def test_an_image_that_cannot_be_decoded_is_named(tmp_path, content):
    path = tmp_path / 'dog 7.png'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"dog 7\.png' is not an image that can be read: repair"):
        LoadImageFromFile()(dict(img_path=str(path)))


def test_other_images_and_errors_are_unchanged(tmp_path):
    path = tmp_path / 'dog.png'
    with pytest.raises(FileNotFoundError):
        LoadImageFromFile()(dict(img_path=str(path)))
    path.write_bytes(PNG)
    assert (LoadImageFromFile()(dict(img_path=str(path)))['img'] == 7).all()
