"""When a trouble is behind us."""

from chaos.recovery import Recovered, Recovery


def test_a_trouble_is_over_when_what_was_acknowledged_by_its_end_is_charged() -> None:
    recovery = Recovery()
    recovery.over(10.0, "kill cost", 100)
    recovery.over(11.0, "stop validate", 150)
    assert recovery.reached(12.0, 99) == ()
    assert recovery.reached(12.5, 120) == (Recovered("kill cost", 2.5),)
    assert recovery.waiting == 1
    assert recovery.reached(20.0, 150) == (Recovered("stop validate", 9.0),)
    assert recovery.longest == Recovered("stop validate", 9.0)
    assert recovery.waiting == 0
