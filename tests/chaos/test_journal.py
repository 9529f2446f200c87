"""What a publisher writes down survives its death."""

from pathlib import Path

from chaos.journal import Follower, Journal


def test_a_follower_reads_what_is_whole_and_goes_on_where_it_was(tmp_path: Path) -> None:
    path, follower = tmp_path / "producer1.1.journal", Follower(tmp_path)
    assert follower.look().events == {}
    journal = Journal(path)
    journal.acknowledged([("acme/1", "f1", True), ("acme/2", "f2", False)])
    journal.attempted(["mark-p-1-end"])
    with path.open("ab") as torn:
        torn.write(b'["e","acme/3"')
    book = follower.look()
    assert book.events == {"acme/1": "f1", "acme/2": "f2"}
    assert book.billable == 1
    with path.open("ab") as torn:
        torn.write(b',"f3",true]\n')
    journal.swallowed(["mark-p-1-end"])
    journal.repeated("late", 7)
    # Acknowledged a second time, to a publisher that had not heard the first.
    journal.acknowledged([("acme/3", "f3", True)])
    journal.close()
    book = follower.look()
    assert book.events["acme/3"] == "f3"
    assert book.billable == 2
    assert book.attempts == {"mark-p-1-end": 1}
    assert book.swallowed == {"mark-p-1-end"}
    assert book.repeats == {"late": 7}
