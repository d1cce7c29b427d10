from collections import Counter, defaultdict

import pytest

from trafficsigns.sources import Annotation
from trafficsigns.sources.listing import collect
from trafficsigns.splits import SPLITS, Shares, divide, undecided


def frame(class_id: int, track: str, number: int, split: str = "train") -> Annotation:
    return Annotation(
        f"{class_id}/{track}_{number}", split, class_id, track and f"{class_id}/{track}", None, None, None
    )


def annotations(tracks_of: dict[int, int], frames: int = 3, split: str = "train") -> list[Annotation]:
    train = [
        frame(c, f"{t:05d}", f, split) for c, tracks in tracks_of.items() for t in range(tracks) for f in range(frames)
    ]
    return [*train, Annotation("test/0", "test", 0, "", 32, 32, (0, 0, 31, 31))] if split else train


def groups(given: list[Annotation], validation: float, seed: int = 1, split: str = "validation") -> set[str]:
    divided = divide(collect(given), Shares(validation, 0.2, seed))
    return {row["group"] for row in divided.to_pylist() if row["split"] == split}


def by_class(tracks) -> Counter[int]:
    return Counter(int(track.partition("/")[0]) for track in tracks)


@pytest.mark.parametrize(
    ("tracks", "fraction", "expected"),
    [(10, 0.2, 2), (7, 0.2, 1), (8, 0.2, 2), (2, 0.2, 1), (2, 0.99, 1), (10, 0.99, 9)],
)
def test_each_class_gives_its_share_at_least_one_and_never_all(tracks, fraction, expected):
    assert by_class(groups(annotations({0: tracks, 1: tracks}), fraction)) == {0: expected, 1: expected}


def test_a_class_of_one_track_keeps_it_for_training():
    assert groups(annotations({0: 1}), 0.5) == set()


def test_test_images_are_never_chosen():
    divided = divide(collect(annotations({0: 5})), Shares(0.9, 0.9, 1))
    assert [row["file"] for row in divided.to_pylist() if row["split"] == "test"] == ["test/0"]


def test_the_order_of_annotations_and_the_number_of_frames_do_not_matter():
    few, many = annotations({0: 9, 5: 4}, frames=1), annotations({0: 9, 5: 4}, frames=7)
    assert groups(few, 0.3) == groups(many[::-1], 0.3)


def test_another_class_does_not_change_the_choice_in_this_one():
    alone, together = (groups(annotations(of), 0.3) for of in ({4: 20}, {3: 8, 4: 20}))
    assert alone == {track for track in together if track.startswith("4/")}


def test_every_track_gets_its_turn_over_the_seeds():
    turns: dict[str, int] = defaultdict(int)
    for seed in range(200):
        for track in groups(annotations({0: 10}), 0.2, seed):
            turns[track] += 1
    # Binomial with n = 200, p = 0.2: mean 40, standard deviation 5.7.
    assert len(turns) == 10
    assert all(17 <= count <= 63 for count in turns.values())


def test_a_set_that_is_not_divided_gets_all_three_splits_of_whole_groups():
    divided = divide(collect(annotations({0: 20, 1: 10}, split="")), Shares(0.1, 0.2, 3)).to_pylist()
    splits = defaultdict(set)
    for row in divided:
        splits[row["group"]].add(row["split"])
    assert all(len(found) == 1 for found in splits.values())
    counted = Counter((group[0], next(iter(found))) for group, found in splits.items())
    # A tenth of what the test split leaves: 16 groups give 2 (1.6 is rounded), 8 give 1.
    assert counted == {
        ("0", "train"): 14, ("0", "validation"): 2, ("0", "test"): 4,
        ("1", "train"): 7, ("1", "validation"): 1, ("1", "test"): 2,
    }  # fmt: skip


def test_what_an_archive_divides_stays_so():
    given = [frame(0, f"{n:05d}", 0, SPLITS[n % 3]) for n in range(30)]
    divided = divide(collect(given), Shares(0.5, 0.5, 1)).to_pylist()
    assert {row["file"]: row["split"] for row in divided} == {each.file: each.split for each in given}


def test_only_images_among_which_a_split_is_chosen_need_a_group():
    given = [frame(0, "", 1, ""), frame(0, "", 2, "train"), frame(0, "", 3, "test"), frame(0, "00001", 4, "train")]
    assert undecided(collect(given))["file"].to_pylist() == ["0/_1", "0/_2"]
    assert len(undecided(collect([*given, frame(0, "", 5, "validation")]))) == 0
