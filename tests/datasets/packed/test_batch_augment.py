import numpy as np
import pytest
import torch
import torchvision.transforms.functional as F
from mmpretrain.registry import TRANSFORMS
from scipy.stats import chi2_contingency, chisquare

from prkd_mm.datasets.packed.batch_augment import choose, crop_and_flip, random_words, splitmix64

N = 50000  # images
PLACES = 9


def test_the_generator_has_the_published_outputs():
    # outputs of the reference code for the seed 1234567
    assert splitmix64(1234567, np.arange(5)).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@pytest.mark.parametrize(
    'shape, padding, size',
    [
        ((3, 32, 32), 4, (32, 32)),
        ((3, 64, 64), 8, (64, 64)),
        ((1, 8, 8), 1, (8, 8)),
        ((3, 5, 9), 2, (5, 9)),
        ((2, 6, 4), 0, (6, 4)),
        ((3, 9, 7), 1, (4, 6)),
        ((3, 6, 6), 2, (10, 8)),
    ],
)
@pytest.mark.parametrize('mirror', [True, False])
def test_crop_and_flip_equals_torchvision(shape, padding, size, mirror):
    torch.manual_seed(0)
    n = 3 * PLACES**2
    images = torch.randint(256, (n, *shape), dtype=torch.uint8)
    rows, columns = (shape[i + 1] + 2 * padding - size[i] + 1 for i in range(2))
    top, left = divmod(np.arange(n) % (rows * columns), columns)  # all positions
    flip = (np.random.RandomState(0).rand(n) < 0.5) & mirror
    before = images.clone()
    ours = crop_and_flip(images, top, left, flip, size, padding)
    assert ours.dtype == torch.uint8 and ours.is_contiguous()
    assert torch.equal(images, before)
    for i, image in enumerate(images):
        image = F.crop(F.pad(image, [padding]), top[i], left[i], *size)
        if flip[i]:
            image = F.hflip(image)
        assert torch.equal(ours[i], image)


@pytest.mark.parametrize(
    'top, left, wrong',
    [
        (9, 0, r'top must be in 0\.\.8'),
        (0, 7, r'left must be in 0\.\.6'),
        (-1, 0, 'top'),
        (0, -1, 'left'),
    ],
)
def test_a_crop_beyond_the_image_is_an_error(top, left, wrong):
    with pytest.raises(ValueError, match=wrong):
        crop_and_flip(
            torch.zeros(1, 3, 8, 8),
            np.array([top]),
            np.array([left]),
            np.array([False]),
            (8, 10),
            padding=4,
        )


def test_choices_depend_on_seed_epoch_and_index_alone():
    index = np.random.RandomState(0).permutation(N)
    for part, whole in zip(
        choose(3, 7, index[100:200], (9, 5), 0.5), choose(3, 7, np.arange(N), (9, 5), 0.5)
    ):
        assert (part == whole[index[100:200]]).all()


def codes(seed, epoch):
    """Encode crop and flip of each image in one number."""
    top, left, flip = choose(seed, epoch, np.arange(N), (PLACES, 7), 0.5)
    assert top.dtype == left.dtype == np.int64 and flip.dtype == bool
    return (top * 7 + left) * 2 + flip


@pytest.mark.parametrize('seed, epoch', [(0, 0), (0, 1), (1, 0), (3, 239), (2**31 - 1, 10**6)])
def test_all_choices_are_equally_probable(seed, epoch):
    counts = np.bincount(codes(seed, epoch), minlength=2 * PLACES * 7)
    assert len(counts) == 2 * PLACES * 7
    assert chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize('prob', [0.0, 0.2, 1.0])
def test_the_share_of_flips_is_the_probability(prob):
    share = choose(0, 0, np.arange(N), flip_prob=prob)[2].mean()
    assert abs(share - prob) <= 4 * (prob * (1 - prob) / N) ** 0.5


@pytest.mark.parametrize(
    'other',
    [
        pytest.param(lambda: codes(5, 9), id='next epoch'),
        pytest.param(lambda: codes(6, 8), id='next seed'),
        pytest.param(lambda: codes(8, 5), id='seed and epoch swapped'),
        pytest.param(lambda: np.roll(codes(5, 8), 1), id='next image'),
    ],
)
def test_choices_are_independent(other):
    table = np.zeros((18, 18))
    # modulo 18, so that no cell is nearly empty
    np.add.at(table, (codes(5, 8) % 18, other() % 18), 1)
    assert chi2_contingency(table).pvalue > 1e-3


def test_streams_of_a_seed_do_not_overlap():
    words = [
        random_words(seed, epoch, stream, np.arange(100))
        for seed in range(10)
        for epoch in range(50)
        for stream in range(2)
    ]
    assert len(set(np.concatenate(words).tolist())) == 100 * 1000


def test_the_distribution_is_that_of_the_stock_transforms():
    image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1) + 1
    crop = TRANSFORMS.build(dict(type='RandomCrop', crop_size=8, padding=1))
    flip = TRANSFORMS.build(dict(type='RandomFlip', prob=0.5))
    np.random.seed(0)
    stock = [flip(crop(dict(img=image)))['img'].reshape(8, 8).tobytes() for _ in range(4000)]
    top, left, mirror = choose(0, 0, np.arange(4000), (3, 3), 0.5)
    batch = torch.from_numpy(image).permute(2, 0, 1).repeat(4000, 1, 1, 1)
    ours = [image.numpy().tobytes() for image in crop_and_flip(batch, top, left, mirror, (8, 8), 1)]
    kinds = sorted(set(stock))
    assert len(kinds) == 18 and kinds == sorted(set(ours))
    counts = [[x.count(kind) for kind in kinds] for x in (stock, ours)]
    assert chi2_contingency(counts).pvalue > 1e-3
