"""What is deleted is gone everywhere, also where it could not be told at once."""

import pytest

from askonce import StoreError
from tests.stores.hosts import blob, far_content


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(("verb", "argument"), [("delete", ["a/1"]), ("clear", "a/")])
def test_a_forget_that_did_not_reach_the_far_tier_is_told_and_done_later(
    hosts, far, clock, use, when, verb, argument
):
    one, other = hosts
    one.tier.write({"a/1": b"one", "b/1": b"other"})
    other.tier.read(["a/1", "b/1"])
    one.link.go_down(when=when)
    with pytest.raises(StoreError, match=r"deleted from the near tier only.*It waits"):
        use(one.tier, verb, argument)
    assert use(one.tier, "read", ["a/1"]) == [None]
    one.come_back()
    assert use(one.tier, "read", ["a/1", "b/1"]) == [None, b"other"]
    use(one.tier, "flush")
    assert far_content(far) == {"b/1": b"other"}
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/1", "b/1"]) == [None, b"other"]


def test_what_is_written_after_a_forget_that_waits_is_kept(hosts, far, clock, use):
    one, other = hosts
    one.tier.write({"a/1": b"old", "a/2": b"old"})
    other.tier.read(["a/1", "a/2"])
    one.link.go_down()
    with pytest.raises(StoreError):
        use(one.tier, "clear", "a/")
    use(one.tier, "write", {"a/1": b"new"})
    assert use(one.tier, "read", ["a/1", "a/2"]) == [b"new", None]
    one.come_back()
    use(one.tier, "flush")
    assert far_content(far) == {"a/1": b"new"}
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/1", "a/2"]) == [b"new", None]


def test_others_hear_of_a_deletion_though_a_write_came_after_it(hosts, far, clock, use):
    one, other = hosts
    one.tier.write({"a/1": b"old"})
    other.tier.read(["a/1"])
    one.link.go_down("take")  # deleted from the far tier, but the others could not be told
    with pytest.raises(StoreError):
        use(one.tier, "delete", ["a/1"])
    use(one.tier, "write", {"a/1": b"new"})
    one.come_back()
    use(one.tier, "flush")
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/1"]) == [b"new"]


def test_an_old_write_does_not_overwrite_a_newer_entry(hosts, far, clock, use):
    one, other = hosts
    one.link.go_down()
    use(one.tier, "write", {"a/1": blob("old", clock())})
    newer = blob("new", clock())
    assert use(other.tier, "read", ["a/1"]) == [None]
    use(other.tier, "write", {"a/1": newer})
    assert other.link.asked["take"] == 0
    one.come_back()
    use(one.tier, "flush")
    assert far_content(far) == {"a/1": newer}
    assert use(one.tier, "read", ["a/1"]) == [newer]


@pytest.mark.parametrize(("verb", "argument"), [("delete", ["a/1"]), ("clear", "a/")])
def test_an_old_write_does_not_bring_back_what_was_forgotten_since(
    hosts, far, clock, use, verb, argument
):
    one, other = hosts
    one.link.go_down()
    use(one.tier, "write", {"a/1": blob("old", clock())})
    use(other.tier, verb, argument)
    one.come_back()
    use(one.tier, "flush")
    assert far_content(far) == {}
    assert use(one.tier, "read", ["a/1"]) == [None]


@pytest.mark.parametrize(("verb", "argument"), [("delete", ["a/1"]), ("clear", "a/")])
def test_an_old_forget_does_not_delete_a_newer_entry(hosts, far, clock, use, verb, argument):
    one, other = hosts
    one.tier.write({"a/1": blob("old", clock())})
    one.link.go_down()
    with pytest.raises(StoreError):
        use(one.tier, verb, argument)
    newer = blob("new", clock())
    use(other.tier, "write", {"a/1": newer})
    one.come_back()
    use(one.tier, "flush")
    assert far_content(far) == {"a/1": newer}


def test_others_hear_of_what_a_late_write_replaced(hosts, clock, use):
    one, other = hosts
    assert other.tier.read(["a/1"]) == [None]
    other.tier.write({"a/1": b"old"})
    assert one.tier.read(["a/1"]) == other.tier.read(["a/1"]) == [b"old"]
    one.link.go_down()
    use(one.tier, "write", {"a/1": b"new"})
    one.come_back()
    use(one.tier, "flush")
    clock.pass_by(5)
    assert use(other.tier, "read", ["a/1"]) == [b"new"]


def test_what_expired_while_it_waited_is_not_sent(host, far, clock, use):
    host.link.go_down()
    use(host.tier, "write", {"a/1": blob("short", clock.now, clock.now + 10)})
    clock.pass_by(20)
    host.come_back()
    use(host.tier, "flush")
    assert far_content(far) == {}
