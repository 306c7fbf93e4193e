"""The job: failures of single texts, errors that all share."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from askonce import InputError, Store, StoreError, open_store
from askonce.bulk import JobError, Stopped
from askonce.bulk.halving import PLAIN
from askonce.bulk.models import Rate
from askonce.bulk.passages import Refused
from askonce.bulk.stopping import Brake
from askonce.providers import cache
from tests.bulk import models
from tests.bulk.jobs import Run, model_of, rows_of
from tests.bulk.models import Named, vectors_of


def test_everything_is_embedded_once(run, tmp_path):
    job = run(Named("m", models.embed))
    outcome = job(["a", "b", "a", "c", "d", "e", "b", "f"])
    assert (outcome.embedded, outcome.failed, outcome.asked) == (8, 0, 6)
    assert sorted(sum(models.asked, [])) == list("abcdef")
    assert list(job.vectors()) == [f"id{number}" for number in range(1, 9)]
    assert (np.stack(list(job.vectors().values())) == vectors_of("abacdebf")).all()
    assert job(["a", "b", "g"]).asked == 1


def test_bad_texts_fail_alone_and_the_good_ones_stay(run):
    texts = [f"{'bad' if number in (3, 17, 18) else 'good'} {number}" for number in range(30)]
    job = run(Named("m", models.picky))
    outcome = job(texts)
    assert (outcome.embedded, outcome.failed) == (27, 3)
    assert job.failures() == [
        {"id": f"id{n}", "file": "f", "row": n, "reason": "ValueError: I do not like that"}
        for n in (4, 18, 19)
    ]
    models.asked.clear()
    assert job(texts).embedded == 27
    assert all("bad" in text for batch in models.asked for text in batch if text != PLAIN)


def test_nan_fails_alone_and_is_not_stored(run):
    job = run(Named("m", models.nan))
    assert job(["one", "bad", "three"]).failed == 1
    assert "NaN" in job.failures()[0]["reason"]
    assert len(list(job.store.keys())) == 2


def test_rows_that_could_not_be_read_are_written_with_the_others(run):
    job = run(Named("m", models.picky))
    rows = rows_of(["one", "bad"])
    job([Refused("f:0", "f", 0, "it is null"), *rows, Refused("f:3", "f", 3, "it is empty")])
    assert [line["reason"] for line in job.failures()] == [
        "it is null", "ValueError: I do not like that", "it is empty"
    ]  # fmt: skip


def test_a_job_that_goes_on_with_bad_texts_alone_ends_as_the_first(run):
    texts = ["one", "two", *(f"bad {number}" for number in range(10))]
    job = run(Named("m", models.picky))
    assert job(texts).failed == 10
    first = job.failures()
    assert job(texts).failed == 10
    assert job.failures() == first


def test_bad_texts_before_good_ones(run):
    texts = [*(f"bad {number}" for number in range(6)), "one", "two", "three"]
    assert run(Named("m", models.picky), batch_size=9)(texts).failed == 6


def test_a_text_that_was_refused_is_not_asked_for_again(run):
    job = run(Named("m", models.picky), at_once=1, batch_size=1)
    assert job(["one", "bad", "two", "bad", "bad"]).failed == 3
    assert sum("bad" in batch for batch in models.asked) == 1


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.sampled_from(["a", "b", "c", "bad 1", "bad 2", "d", "e", "f", "g"])),
    before=st.lists(st.sampled_from("abcdefg"), max_size=4),
    batch_size=st.integers(1, 5),
    at_once=st.integers(1, 3),
)
def test_any_mix_gives_what_asking_one_by_one_gives(
    texts, before, batch_size, at_once, tmp_path_factory
):
    texts = ["first", *texts]
    models.asked.clear()
    embedder = Named("m", models.picky)
    job = Run(
        tmp_path_factory.mktemp("job"), embedder, batch_size=batch_size, at_once=at_once
    )
    if before:
        cache(embedder, job.store).embed(before)
        models.asked.clear()
    outcome = job(texts)
    good = {f"id{n}": text for n, text in enumerate(texts, 1) if "bad" not in text}
    found = job.vectors()
    assert list(found) == list(good)
    assert (np.stack(list(found.values())) == vectors_of(good.values())).all()
    assert outcome.failed == len(texts) - len(good)
    assert (job.planned.unique, job.planned.cached) == (
        len(set(texts)), len(set(texts) & set(before))
    )  # fmt: skip
    asked = {text for batch in models.asked for text in batch}
    assert not asked & set(before)
    fine = [batch for batch in models.asked if not any("bad" in text for text in batch)]
    answered = [text for batch in fine for text in batch if text != PLAIN]
    assert len(answered) == len(set(answered)), "no text is answered twice"


def test_a_model_that_always_fails_stops_the_job(run):
    job = run(Named("m", models.broken))
    with pytest.raises(JobError, match="the model 'm' fails: ConnectionError: nobody there"):
        job([str(number) for number in range(1000)])
    assert len(models.asked) < 40, "it gives up soon"
    assert not job.folder.exists()


def test_401_stops_the_job_and_loses_nothing(run):
    job = run(Named("m", models.unauthorised_later), at_once=1)
    with pytest.raises(JobError, match="Unauthorised: the key was revoked"):
        job([str(number) for number in range(100)])
    assert len(list(job.store.keys())) == 4
    assert len(models.asked) <= 5


def test_a_model_of_the_same_name_that_is_another(run, tmp_path):
    job = run(models.before)
    job(["a", "b", "c"])
    job.model = model_of(models.after)
    with pytest.raises(JobError) as error:
        job(["a", "b", "c", "d"])
    assert "'m' gives vectors of 9 dimensions, but 8 are stored under its name" in str(error.value)
    assert "--namespace" in str(error.value)
    assert len(list(job.store.keys())) == 3
    assert len(job.vectors()) == 3, "the older output is still there"


def test_what_is_stored_is_of_two_lengths(run):
    job = run(models.before, at_once=1, batch_size=3)
    cache(models.before, job.store).embed(["a", "b", "c"])
    cache(models.after, job.store).embed(["d", "e", "f"])
    with pytest.raises(JobError, match="9 dimensions, but 8 are stored"):
        job(["a", "b", "c", "d", "e", "f"])


def test_dimensions_that_the_model_does_not_give(run):
    embedder = Named("m", models.longer)
    embedder.dimensions = 8
    with pytest.raises(JobError, match="9 dimensions, but 8 were asked for; leave --dimensions"):
        run(embedder)(["a"])


class Full(Store):
    """Be a store whose disk is full after some writes."""

    def __init__(self, writes):
        self.inner = open_store("memory://")
        self.left = writes

    def read(self, keys):
        return self.inner.read(keys)

    def write(self, entries, *, expires=float("inf")):
        if self.left == 0:
            raise StoreError("the disk is full")
        self.left -= 1
        self.inner.write(entries, expires=expires)

    def delete(self, keys):
        self.inner.delete(keys)

    def keys(self, prefix=""):
        return self.inner.keys(prefix)

    def close(self):
        pass


def test_a_store_that_fails_stops_the_job(run):
    job = run(Named("m", models.embed), at_once=1, store=(store := Full(3)))
    with pytest.raises(JobError, match="the store failed: the disk is full"):
        job([str(number) for number in range(1000)])
    assert len(list(store.keys())) == 12
    assert len(models.asked) < 8, "no more is paid for than was under way"
    assert not job.folder.exists()
    store.left = -1
    models.asked.clear()
    job.brake = Brake()
    assert job([str(number) for number in range(1000)]).asked == 988


def test_nothing_at_all_could_be_embedded(run):
    job = run(Named("m", models.picky))
    with pytest.raises(JobError, match="no passage could be embedded; f, row 1: ValueError"):
        job(["bad"] * 2)
    assert not job.folder.exists()


@pytest.mark.parametrize(
    ("rows", "message"), [([], "all is empty"), ([Refused("x", "f", 3, "null")], "f, row 3: null")]
)
def test_no_passage(run, rows, message):
    with pytest.raises(InputError, match=message):
        run(Named("m", models.embed))(rows)


def test_a_job_that_was_asked_to_stop_asks_for_nothing_more(run):
    job = run(Named("m", models.embed), at_once=1)
    brake = job.brake

    def stop_after(texts):
        if len(models.asked) == 2:
            brake.stop()
        return models.embed(texts)

    job.model = model_of(Named("m", stop_after), at_once=1)
    with pytest.raises(Stopped):
        job([str(number) for number in range(100)])
    assert len(models.asked) == 3
    assert len(list(job.store.keys())) == 12, "the batch under way is stored"


def test_money_is_unknown_without_a_price(run):
    outcome = run(Named("m", models.embed))(["a"])
    assert (outcome.spent, outcome.saved) == (None, None)


def test_progress_counts_up_to_all(run):
    job = run(Named("m", models.picky), at_once=1)
    seen = []
    job.told = type("Told", (), {"append": lambda self, o: seen.append((o.rows, o.failed))})()
    job([f"{'bad' if number == 9 else ''} {number} x" for number in range(20)])
    assert seen == [(4, 0), (8, 0), (12, 1), (16, 1), (20, 1)]


def test_tokens_a_minute_are_kept_to(run, monkeypatch):
    job = run(Named("m", models.embed), at_once=1, rate=Rate(tokens=60))
    waited = []
    monkeypatch.setattr(job.brake.pulled, "wait", waited.append)
    job(["x" * 40] * 2 + ["y" * 40, "z" * 40, "1" * 40, "2" * 40])
    assert waited[0] <= 0
    assert waited[1] == pytest.approx(30, abs=5)
