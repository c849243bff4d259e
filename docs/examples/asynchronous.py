"""Several files at once on one event loop: the same calls, awaited."""

import asyncio

from gooseherd.client import AsyncGooseherdClient

FILES = ("reads.sam", "calls.vcf", "genes.gff3")


async def main() -> None:
    """Prepare them together, then count what lies in one region."""
    async with AsyncGooseherdClient() as client:
        await asyncio.gather(*(client.ready("local", name) for name in FILES))
        for name in FILES:
            found = [line async for line in client.records("local", name, "chr1:5,000-6,000")]
            print(name, len(found))
        print("jobs:", len([job async for job in client.jobs(limit=10)]))


asyncio.run(main())
