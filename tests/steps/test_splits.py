from collections import Counter, defaultdict

import pytest

from trafficsigns.sources import Annotation
from trafficsigns.splits import validation_tracks


def annotations(tracks_of: dict[int, int], frames: int = 3) -> list[Annotation]:
    train = [
        Annotation(f"{c}/{t}_{f}", "train", c, f"{c}/{t:05d}", 32, 32, (0, 0, 31, 31))
        for c, tracks in tracks_of.items()
        for t in range(tracks)
        for f in range(frames)
    ]
    return [*train, Annotation("test/0", "test", 0, "", 32, 32, (0, 0, 31, 31))]


def by_class(tracks) -> Counter[int]:
    return Counter(int(track.partition("/")[0]) for track in tracks)


@pytest.mark.parametrize(
    ("tracks", "fraction", "expected"),
    [(10, 0.2, 2), (7, 0.2, 1), (8, 0.2, 2), (2, 0.2, 1), (2, 0.99, 1), (10, 0.99, 9)],
)
def test_each_class_gives_its_share_at_least_one_and_never_all(tracks, fraction, expected):
    chosen = validation_tracks(annotations({0: tracks, 1: tracks}), fraction, seed=1)
    assert by_class(chosen) == {0: expected, 1: expected}


def test_a_class_of_one_track_keeps_it_for_training():
    assert validation_tracks(annotations({0: 1}), 0.5, seed=1) == frozenset()


def test_test_images_are_never_chosen():
    assert "" not in validation_tracks(annotations({0: 5}), 0.9, seed=1)


def test_the_order_of_annotations_and_the_number_of_frames_do_not_matter():
    few, many = annotations({0: 9, 5: 4}, frames=1), annotations({0: 9, 5: 4}, frames=7)
    assert validation_tracks(few, 0.3, 1) == validation_tracks(reversed(many), 0.3, 1)


def test_another_class_does_not_change_the_choice_in_this_one():
    alone, together = (validation_tracks(annotations(of), 0.3, 1) for of in ({4: 20}, {3: 8, 4: 20}))
    assert alone == {track for track in together if track.startswith("4/")}


def test_every_track_gets_its_turn_over_the_seeds():
    turns: dict[str, int] = defaultdict(int)
    for seed in range(200):
        for track in validation_tracks(annotations({0: 10}), 0.2, seed):
            turns[track] += 1
    # Binomial with n = 200, p = 0.2: mean 40, standard deviation 5.7.
    assert len(turns) == 10
    assert all(17 <= count <= 63 for count in turns.values())
