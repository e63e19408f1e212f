"""Labels find free room."""

from calibrate.placement import Placer, Spot, along


def test_a_label_stands_beside_its_point_when_nothing_is_in_the_way() -> None:
    spot = Placer(600, 300, []).place((200, 150), ["Incumbent"])
    assert (spot.align, spot.dy) == ("left", 0.0)


def test_a_label_near_the_right_edge_turns_to_the_left() -> None:
    assert Placer(600, 300, []).place((590, 150), ["Recommended"]).align == "right"


def test_a_label_avoids_a_line() -> None:
    line = along([(0, 150), (600, 150)])
    spot = Placer(600, 300, line).place((300, 150), ["Incumbent", "18.2"])
    assert abs(spot.dy) > 20


def test_two_labels_of_one_point_do_not_overlap() -> None:
    placer = Placer(600, 300, [])
    placer.place((300, 150), ["Incumbent"])
    placer.place((300, 150), ["Recommended"])
    first, second = placer.boxes
    assert first.overlap(second) == 0


def test_given_spots_are_the_only_ones_tried() -> None:
    spots = [Spot(6, -10, "left"), Spot(594, -10, "right")]
    crowd = along([(0, 140), (100, 140)])
    assert Placer(600, 300, crowd).place((0, 150), ["tolerance 0.1 %"], spots) == spots[1]


def test_a_line_is_an_obstacle_all_along() -> None:
    pixels = along([(0, 0), (30, 40)])
    assert pixels[0] == (0, 0)
    assert pixels[-1] == (30, 40)
    assert len(pixels) == 11
    assert along([]) == []
