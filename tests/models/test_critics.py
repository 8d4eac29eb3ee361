import pytest
import torch

from mssync.models.critics import Critics, window_starts

PAPER = {
    "embedding_hidden": [408, 1632],
    "embedding": 512,
    "frame_hidden": 256,
    "state": 1024,
    "projection": 2048,
    "window_frames": [5, 10, 20, 40],
}


def small(window_frames):
    torch.manual_seed(0)
    return Critics(
        embedding_hidden=[12, 16],
        embedding=8,
        frame_hidden=4,
        state=8,
        projection=16,
        window_frames=window_frames,
    )


@pytest.fixture
def real():
    return torch.rand(3, 42, 68, 2, generator=torch.Generator().manual_seed(0))


def test_the_papers_sizes_have_the_papers_number_of_parameters():
    with torch.device("meta"):
        critics = Critics(**PAPER)
    assert sum(parameter.numel() for parameter in critics.parameters()) == 24_270_315


def test_every_predicted_frame_and_every_sequence_gets_a_score(real):
    frame_scores, sequence_scores = small([5, 10, 20, 40])(real[:, :2], real[:, 2:])
    assert frame_scores.shape == (3, 40)
    assert sequence_scores.shape == (3,)


@torch.no_grad()
def test_a_frame_is_judged_alone_and_a_sequence_as_a_whole(real):
    critics = small([5, 40]).eval()
    changed = real.clone()
    changed[:, 10] += 0.2
    frame_scores, sequence_scores = critics(real[:, :2], real[:, 2:])
    others, other_sequences = critics(changed[:, :2], changed[:, 2:])
    differs = (frame_scores != others).any(dim=0)
    assert differs.nonzero().flatten().tolist() == [8]
    assert (sequence_scores != other_sequences).all()


@torch.no_grad()
def test_the_context_counts_for_the_sequence_only(real):
    critics = small([5, 40]).eval()
    frame_scores, sequence_scores = critics(real[:, :2], real[:, 2:])
    others, other_sequences = critics(real[:, :2] + 0.2, real[:, 2:])
    assert torch.equal(frame_scores, others)
    assert (sequence_scores != other_sequences).all()


def test_windows_move_by_half_their_length_and_start_in_the_context():
    assert window_starts(40, 5, context_frames=2) == range(-2, 36, 2)
    assert list(window_starts(40, 20, context_frames=2)) == [-2, 8, 18]
    assert list(window_starts(40, 40, context_frames=2)) == [-2]
    assert list(window_starts(40, 43, context_frames=2)) == []


@torch.no_grad()
def test_windows_longer_than_the_motion_are_left_out(real):
    _, with_long = small([5, 400]).eval()(real[:, :2], real[:, 2:])
    _, without = small([5]).eval()(real[:, :2], real[:, 2:])
    assert torch.equal(with_long, without)


def test_motion_shorter_than_every_window_is_refused(real):
    with pytest.raises(ValueError, match=r"no window of \[50\] frames fits into 40 frames"):
        small([50])(real[:, :2], real[:, 2:])


def test_the_projection_heads_maps_have_spectral_norm_one(real):
    critics = small([5])
    with torch.no_grad():
        critics.sequence.head.phi.parametrizations.weight.original.mul_(7)
        for _ in range(30):
            critics(real[:, :2], real[:, 2:])
    for linear in (critics.sequence.head.phi, critics.sequence.head.psi):
        assert torch.linalg.matrix_norm(linear.weight, 2).item() == pytest.approx(1, abs=0.02)
