"""What every KeyStore promises, asked of each of the real ones; and lists of what somebody may see."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from tests.contract.test_file_store import entry
from tests.contract.test_job_store import claimed

from gooseherd.domain.apikey import ApiKey, KeyId, NewKey
from gooseherd.domain.batch import BatchId, NewBatch
from gooseherd.domain.caller import Scope
from gooseherd.domain.job import Requester
from gooseherd.domain.ports.batches import BatchLimits, BatchQuery
from gooseherd.domain.ports.store import FileQuery, JobQuery
from gooseherd.domain.source import AccessLevel, Dcc, LocalId
from gooseherd.domain.visibility import EVERYTHING, PUBLIC_ONLY, Visibility

pytestmark = pytest.mark.integration

LATER = datetime(2124, 5, 6, 7, 8, 9, 123456, UTC)
HOUR = timedelta(hours=1)


def new_key(key_id: str = "k1", **changes) -> NewKey:
    key = NewKey(
        KeyId(key_id),
        "d" * 64,
        Requester("lab ü"),
        frozenset({Scope.READ, Scope.SUBMIT}),
        frozenset({Dcc("4dn"), Dcc("hubmap")}),
        label="sequencer",
        expires_at=LATER,
    )
    return replace(key, **changes)


async def test_a_key_reads_back_equal_with_the_stores_time(store):
    before = await store.jobs.now()
    stored = await store.keys.add(new_key())
    assert before <= stored.created_at <= await store.jobs.now()
    assert await store.keys.get(KeyId("k1")) == stored
    assert isinstance(stored, ApiKey)
    assert (stored.digest, stored.owner, stored.label) == ("d" * 64, "lab ü", "sequencer")
    assert stored.scopes == {Scope.READ, Scope.SUBMIT}
    assert stored.collections == {"4dn", "hubmap"}
    assert stored.expires_at == LATER.replace(microsecond=123000)
    assert (stored.revoked_at, stored.last_used_at, stored.all_collections) == (None, None, False)
    assert await store.keys.get(KeyId("other")) is None


async def test_of_two_keys_with_one_id_the_first_stays(store):
    first = await store.keys.add(new_key())
    assert await store.keys.add(new_key(digest="e" * 64, owner=Requester("thief"))) == first
    await store.keys.add(new_key("k2", expires_at=None, all_collections=True, collections=frozenset()))
    assert [key.key_id for key in await store.keys.keys()] == ["k1", "k2"]


async def test_a_revocation_stands_and_an_expiry_only_comes_nearer(store):
    await store.keys.add(new_key())
    revoked = await store.keys.revoke(KeyId("k1"))
    assert revoked.revoked_at is not None
    await asyncio.sleep(0.01)
    assert await store.keys.revoke(KeyId("k1")) == revoked
    sooner = await store.keys.expire(KeyId("k1"), HOUR)
    assert timedelta(0) < sooner.expires_at - revoked.revoked_at <= HOUR + timedelta(minutes=1)
    assert await store.keys.expire(KeyId("k1"), 2 * HOUR) == sooner
    await store.keys.add(new_key("k2", expires_at=None))
    assert (await store.keys.expire(KeyId("k2"), HOUR)).expires_at is not None
    assert await store.keys.revoke(KeyId("none")) is None
    assert await store.keys.expire(KeyId("none"), HOUR) is None


async def test_its_use_is_noted_once_in_a_while(store):
    await store.keys.add(new_key())
    noted = await asyncio.gather(*(store.keys.note_use(KeyId("k1"), HOUR) for _ in range(5)))
    assert sum(noted) == 1
    first = (await store.keys.get(KeyId("k1"))).last_used_at
    assert first is not None
    await asyncio.sleep(0.01)
    assert await store.keys.note_use(KeyId("k1"), timedelta(0))
    assert (await store.keys.get(KeyId("k1"))).last_used_at > first
    assert not await store.keys.note_use(KeyId("none"), HOUR)


async def test_versions_of_tokens_are_counted_by_subject_and_resource(store):
    assert await store.keys.token_version("k1", "4dn/f1") == 0
    counted = await asyncio.gather(*(store.keys.revoke_tokens("k1", "4dn/f1") for _ in range(4)))
    assert max(counted) == 4
    assert await store.keys.token_version("k1", "4dn/f1") == 4
    assert await store.keys.token_version("k1", "4dn/") == 0
    assert await store.keys.token_version("k2", "4dn/f1") == 0


async def test_of_many_proposed_secrets_all_processes_get_the_same(store):
    found = await asyncio.gather(*(store.keys.shared_secret("tokens", f"s{n}") for n in range(5)))
    assert len(set(found)) == 1
    assert found[0] in {f"s{n}" for n in range(5)}
    assert await store.keys.shared_secret("tokens", "later") == found[0]
    assert await store.keys.shared_secret("other", "mine") == "mine"


# -- what somebody may see -------------------------------------------------------------------


SEEN = {
    "nothing else": (PUBLIC_ONLY, ["a/open", "b/open"]),
    "a collection": (Visibility(collections=frozenset({Dcc("a")})), ["a/hidden", "a/open", "b/open"]),
    "a file": (Visibility(file=(Dcc("b"), LocalId("hidden"))), ["a/open", "b/hidden", "b/open"]),
    "everything": (EVERYTHING, ["a/hidden", "a/open", "b/hidden", "b/open"]),
}


def entries():
    for dcc in ("a", "b"):
        for local_id, level in (("open", AccessLevel.PUBLIC), ("hidden", AccessLevel.CONSORTIUM)):
            yield replace(
                entry(local_id), dcc=Dcc(dcc), local_id=LocalId(local_id), access_level=level,
                filename="reads.bam",
            )  # fmt: skip


@pytest.mark.parametrize("query", [{}, {"text": "reads"}, {"text": "hid"}], ids=["all", "text", "hidden"])
@pytest.mark.parametrize("who", SEEN)
async def test_a_list_of_files_has_what_is_seen_and_tells_of_no_others(store, who, query):
    await store.files.put(list(entries()))
    visible, expected = SEEN[who]
    if query.get("text") == "hid":
        expected = [name for name in expected if name.endswith("hidden")]
    found, after = [], None
    while True:
        page = await store.files.search(FileQuery(**query, visible=visible, limit=1, after=after))
        found += [file.name for file in page.files]
        after = page.next
        if after is None:
            break
        assert len(page.files) == 1, "a page without an entry, and a next one, tell that one is hidden"
    assert found == expected


async def test_of_many_names_those_are_found_whose_entries_are_not_public(store):
    await store.files.put(list(entries()))
    names = [(Dcc("a"), LocalId(f"no{number}")) for number in range(900)]
    names += [(entry.dcc, entry.local_id) for entry in entries()]
    assert await store.files.not_public(names) == {("a", "hidden"), ("b", "hidden")}
    assert await store.files.not_public([]) == frozenset()


async def test_an_entry_that_is_replaced_is_seen_as_it_is_now(store):
    (one, *_) = [file for file in entries() if file.name == "a/open"]
    await store.files.put([one])
    await store.files.put([replace(one, access_level=AccessLevel.PROTECTED)])
    assert (await store.files.search(FileQuery(visible=PUBLIC_ONLY))).files == ()
    await store.files.put([one])
    assert len((await store.files.search(FileQuery(visible=PUBLIC_ONLY))).files) == 1


@pytest.mark.parametrize("who", SEEN)
async def test_a_list_of_jobs_has_what_is_seen_and_tells_of_no_others(store, who):
    for number, file in enumerate(entries()):
        await claimed(store.jobs, f"k{number}", source=file)
    visible, expected = SEEN[who]
    found, after = [], None
    while True:
        page = await store.jobs.find(JobQuery(visible=visible, limit=1, after=after))
        found += [job.source.name for job in page.jobs]
        after = page.next
        if after is None:
            break
        assert len(page.jobs) == 1
    assert sorted(found) == expected


async def test_a_batch_that_may_hold_hidden_files_is_listed_for_its_requester(store):
    limits = BatchLimits(10, 10)
    seen = {"open": PUBLIC_ONLY, "private": Visibility(collections=frozenset({Dcc("a")}))}
    for name, visible in seen.items():
        files = ((Dcc("a"), LocalId("f")),)
        new = NewBatch(BatchId(name), Requester("anne"), files, "digest", visible=visible)
        assert (await store.batches.create(new, limits)).batch.visible == visible
        assert (await store.batches.get(BatchId(name))).visible == visible

    async def listed(**query):
        return {batch.batch_id for batch in (await store.batches.find(BatchQuery(**query))).batches}

    assert await listed() == {"open", "private"}
    assert await listed(private_of=Requester("anne")) == {"open", "private"}
    assert await listed(private_of=Requester("bert")) == {"open"}
