import torch

from cliptrase_ros.video.smoothing import Smoother

SHAPE = 2, 3, 4


def test_the_mean_is_exponential():
    frames = torch.rand(5, *SHAPE)
    smooth, mean = Smoother(), frames[0]
    assert torch.equal(smooth(frames[0], 0.7, 'a'), frames[0])
    for frame in frames[1:]:
        mean = 0.7 * mean + 0.3 * frame
        assert torch.allclose(smooth(frame, 0.7, 'a'), mean, atol=1e-6)


def test_other_words_another_shape_no_weight_and_a_new_start_forget():
    one, two = torch.rand(2, *SHAPE)
    smooth = Smoother()
    smooth(one, 0.7, 'a')
    assert torch.equal(smooth(two, 0.7, 'b'), two)
    assert torch.equal(smooth(two[:, 1:], 0.7, 'b'), two[:, 1:])
    assert torch.equal(smooth(one[:, 1:], 0.0, 'b'), one[:, 1:])
    assert torch.equal(smooth(two[:, 1:], 0.7, 'b'), two[:, 1:])
    smooth.forget()
    assert torch.equal(smooth(one[:, 1:], 0.7, 'b'), one[:, 1:])
