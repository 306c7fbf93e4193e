from askonce.core.entry import NEVER
from askonce.stores import objects_batch, objects_log
from askonce.stores.objects_segments import (
    as_digests,
    digest_of,
    newest_of,
    newest_rows,
    parse,
)
from hypothesis import given
from hypothesis import strategies as st

BATCHES = st.lists(
    st.dictionaries(st.sampled_from("abcdefgh"), st.one_of(st.none(), st.binary(max_size=9)), min_size=1, max_size=4),
    max_size=6,
)  # fmt: skip


@given(BATCHES, st.randoms())
def test_merging_keeps_the_newest_of_everything(batches, dice):
    """Of segments in any order, merged in any groups, the newest versions are those of a dict."""
    model: dict[str, bytes] = {}
    segments = []
    for stamp, batch in enumerate(batches, start=1):
        written = {key: value for key, value in batch.items() if value is not None}
        # Only what is there is buried, with the stamp of what it buries.
        buried = [key for key, value in batch.items() if value is None and key in model]
        graves = []
        for key in buried:
            owners, rows = newest_of(segments, as_digests([digest_of(key)]))
            graves.append(objects_batch.grave_of(segments[owners[0]], rows[0]))
            del model[key]
        for draft in (
            objects_batch.Batch(written, NEVER).draft(stamp, []) if written else None,
            objects_batch.draft_of(graves) if graves else None,
        ):
            if draft is not None:
                content, _ = draft.encode()
                segments.append(parse(f"{len(segments)}", content, len(content)))
        model |= written
    dice.shuffle(segments)
    while len(segments) > 1:
        owners, at = newest_rows(segments, gone=False)
        assert len(owners) == len(model)
        some, others = segments[:2], segments[2:]
        content, _ = objects_log.merge(some, others).encode()
        segments = [*others, parse("merged", content, len(content))]
        dice.shuffle(segments)
    found = {}
    for segment in segments:
        starts = segment.key_starts
        for row in range(len(segment.rows)):
            start, end = int(starts[row]), int(starts[row] + segment.rows["key_length"][row])
            key = segment.content[segment.keys_at + start : segment.keys_at + end].decode()
            begin = segment.values_at + int(segment.rows["offset"][row])
            value = segment.content[begin : begin + int(segment.rows["length"][row])]
            if segment.rows["place"][row] == 0:
                found[key] = value
    assert found == model


@given(st.dictionaries(st.text(min_size=1), st.binary(max_size=20), min_size=1), st.data())
def test_a_segment_with_a_wrong_byte_in_its_head_is_none(entries, data):
    content, head = objects_batch.Batch(entries, NEVER).draft(7, []).encode()
    assert parse("x", content, len(content)) is not None
    assert parse("x", content[:head], len(content)) is not None
    end = data.draw(st.integers(0, len(content) - 1))
    assert parse("x", content[:end], end) is None
    at = data.draw(st.integers(0, head - 1))
    flipped = (
        content[:at] + bytes([content[at] ^ data.draw(st.integers(1, 255))]) + content[at + 1 :]
    )
    assert parse("x", flipped, len(flipped)) is None
