"""create-indexes.js says what the service makes sure of, and a clash of indexes is told to the operator."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pymongo.errors import DuplicateKeyError

from gooseherd.domain.errors import Misconfigured
from gooseherd.store.mongo.connect import Database
from gooseherd.store.mongo.schema import INDEXES, JOBS, ONE_ACTIVE, ensure_indexes, render_create_indexes_js

SCRIPT = Path(__file__).parents[2] / "create-indexes.js"

MONGOSH = "mongosh@2.12.0"

SHIM = """
const made = [];
const database = (name) => ({
  getName: () => name,
  getSiblingDB: database,
  getCollection: (collection) => ({
    createIndex: (keys, options) => {
      made.push({ database: name, collection, keys: Object.entries(keys), options });
    },
  }),
});
const db = database("default");
const source = require("fs").readFileSync(process.argv[2], "utf8");
new Function("db", source)(db);
process.stdout.write(JSON.stringify(made));
"""


def test_the_script_in_the_tree_is_the_generated_one():
    assert SCRIPT.read_bytes() == render_create_indexes_js().encode()


def test_partial_filters_use_equality_only():
    """Amazon DocumentDB has no $in there."""
    for index in INDEXES:
        assert all(not isinstance(value, dict) for value in index.partial.values()), index.name


def test_the_mutex_is_the_partial_unique_index():
    (mutex,) = [index for index in INDEXES if index.name == ONE_ACTIVE]
    assert mutex.collection == JOBS
    assert mutex.keys == (("workflow_key", 1),)
    assert mutex.options["unique"] is True
    assert mutex.options["partialFilterExpression"] == {"active": True}


async def indexes_of(db: Database) -> dict[str, dict[str, Any]]:
    found = {}
    for collection in sorted({index.collection for index in INDEXES}):
        for name, result in (await db[collection].index_information()).items():
            found[f"{collection}.{name}"] = {k: list(v) if k == "key" else v for k, v in result.items()}
    return found


@pytest.mark.integration
async def test_running_the_script_makes_the_indexes_that_the_service_makes(database, tmp_path, needs):
    """Run by node with a shell's `db` that writes down the calls, which a driver then makes."""
    [node] = needs("node")
    shim = tmp_path / "shim.js"
    shim.write_text(SHIM)
    done = await asyncio.to_thread(
        subprocess.run,
        [node, str(shim), str(SCRIPT)],
        env={**os.environ, "DATABASE_NAME": "elsewhere"},
        capture_output=True,
        check=True,
        timeout=60,
    )
    calls = json.loads(done.stdout)
    assert {call["database"] for call in calls} == {"elsewhere"}

    by_service = await indexes_of(database)
    await database.client.drop_database(database.name)
    for call in calls:
        await database[call["collection"]].create_index(
            [tuple(key) for key in call["keys"]], **call["options"]
        )
    assert await indexes_of(database) == by_service


@pytest.fixture(scope="session")
def mongosh(tmp_path_factory, needs) -> str:
    """MongoDB's own shell: that on PATH, or the package of npm."""
    there = shutil.which("mongosh")
    if there is not None:
        return there
    [npm] = needs("npm")
    folder = tmp_path_factory.mktemp("mongosh")
    install = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder, MONGOSH]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    return str(folder / "node_modules" / ".bin" / "mongosh")


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_mongodbs_own_shell_makes_the_indexes_that_the_service_makes(
    database, database_url, mongosh, tmp_path
):
    by_service = await indexes_of(database)
    await database.client.drop_database(database.name)
    for _ in range(2):  # again it changes nothing
        await asyncio.to_thread(
            subprocess.run,
            [mongosh, "--quiet", database_url, str(SCRIPT)],
            env={**os.environ, "DATABASE_NAME": database.name, "HOME": str(tmp_path)},
            capture_output=True,
            check=True,
            timeout=120,
        )
        assert await indexes_of(database) == by_service


@pytest.mark.integration
async def test_all_indexes_are_there_and_making_them_again_changes_nothing(database):
    before = await indexes_of(database)
    assert {f"{index.collection}.{index.name}" for index in INDEXES} <= set(before)
    await asyncio.gather(*(ensure_indexes(database) for _ in range(4)))
    assert await indexes_of(database) == before


@pytest.mark.integration
async def test_the_index_itself_keeps_two_active_jobs_apart(database):
    jobs = database[JOBS]
    await jobs.insert_one({"_id": "a", "workflow_key": "k", "active": True})
    with pytest.raises(DuplicateKeyError):
        await jobs.insert_one({"_id": "b", "workflow_key": "k", "active": True})
    await jobs.update_one({"_id": "a"}, {"$set": {"active": False}})
    await jobs.insert_one({"_id": "b", "workflow_key": "k", "active": True})
    with pytest.raises(DuplicateKeyError):
        await jobs.update_one({"_id": "a"}, {"$set": {"active": True}})


@pytest.mark.integration
async def test_an_index_with_other_options_is_named_with_its_remedy(database):
    await database[JOBS].drop_index(ONE_ACTIVE)
    await database[JOBS].create_index([("workflow_key", 1)], name=ONE_ACTIVE)
    with pytest.raises(Misconfigured, match=rf"jobs\.{ONE_ACTIVE}.*dropIndex\('{ONE_ACTIVE}'\)"):
        await ensure_indexes(database)


@pytest.mark.integration
async def test_documents_that_break_a_unique_index_are_named(database):
    await database[JOBS].drop_index(ONE_ACTIVE)
    await database[JOBS].insert_many([{"workflow_key": "k", "active": True} for _ in range(2)])
    with pytest.raises(Misconfigured, match=rf"jobs\.{ONE_ACTIVE}.*\(workflow_key\)"):
        await ensure_indexes(database)
