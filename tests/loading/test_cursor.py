"""Where a loader stands: arithmetic, over random sizes."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gan_lib.loading.cursor import Cursor

rows = st.integers(1, 200)


@st.composite
def cursors(draw: st.DrawFn) -> Cursor:
    """A cursor after some batches of changing sizes."""
    count = draw(rows)
    cursor = Cursor.at_epoch(0, count, draw(st.integers(1, count)))
    for size in draw(st.lists(st.integers(1, count), max_size=12)):
        cursor = cursor.advance().with_global_batch_size(size)
    return cursor


@given(cursors())
def test_a_whole_batch_always_fits_into_what_is_left_of_the_epoch(cursor: Cursor):
    assert cursor.global_index + cursor.global_batch_size <= cursor.rows - cursor.remainder


@given(cursors(), st.integers(1, 20))
def test_advancing_never_goes_back_and_skips_less_than_a_batch_at_an_epochs_end(cursor: Cursor, steps: int):
    for _ in range(steps):
        following = cursor.advance()
        assert (following.epoch, following.global_index) > (cursor.epoch, cursor.global_index)
        if following.epoch > cursor.epoch:
            left = cursor.rows - cursor.remainder - cursor.global_index - cursor.global_batch_size
            assert following.global_index == 0 and following.epoch == cursor.epoch + 1
            assert 0 <= left < cursor.global_batch_size
        else:
            assert following.global_index == cursor.global_index + cursor.global_batch_size
        cursor = following


@given(rows, st.data())
def test_batches_of_one_size_leave_exactly_the_remainder(count: int, data: st.DataObject):
    size = data.draw(st.integers(1, count))
    cursor = Cursor.at_epoch(data.draw(st.integers(0, 9)), count, size)
    steps = 0
    for following in itertools.accumulate(range(count + 1), lambda here, _: here.advance(), initial=cursor):
        if following.epoch > cursor.epoch:
            break
        steps += 1
    assert steps == count // size and cursor.remainder == count - steps * size


@given(rows, st.data())
def test_seeking_is_as_good_as_advancing(count: int, data: st.DataObject):
    size, steps = data.draw(st.integers(1, count)), data.draw(st.integers(0, 50))
    start = Cursor.at_epoch(0, count, size)
    walked = start
    for _ in range(steps):
        walked = walked.advance()
    assert start.seek(steps * size) == walked


@given(cursors(), st.data())
def test_a_restored_cursor_goes_on_as_the_saved_one_with_any_batch_size(cursor: Cursor, data: st.DataObject):
    size = data.draw(st.integers(1, cursor.rows))
    fresh = Cursor.at_epoch(0, cursor.rows, size)
    assert fresh.restored(cursor.state_dict()) == cursor.with_global_batch_size(size)
    same = Cursor.at_epoch(0, cursor.rows, cursor.global_batch_size)
    assert same.restored(cursor.state_dict()) == cursor


@given(cursors(), st.data())
def test_a_change_of_batch_size_within_an_epoch_keeps_the_rows_that_it_drops(cursor: Cursor, data: st.DataObject):
    changed = cursor.with_global_batch_size(data.draw(st.integers(1, cursor.rows)))
    if cursor.global_index > 0 and changed.epoch == cursor.epoch:
        assert changed.remainder == cursor.remainder and changed.global_index == cursor.global_index
    else:
        assert changed.global_index == 0 and changed.remainder == cursor.rows % changed.global_batch_size
