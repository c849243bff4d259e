"""Many files as one batch, followed to its end; then what was made of one of them."""

from gooseherd.client import GooseherdClient, JobEnded, NotReachable

with GooseherdClient() as client:
    try:
        batch = client.create_batch(["local/reads.sam", "local/calls.vcf", "local/genes.gff3"])
        for now in client.follow_batch(batch.batch_id, timeout_seconds=600):
            print(f"{now.percent:.0f} % of {now.total} files: {now.counts.ready} ready")
        for file in client.batch_files(batch.batch_id, state="failed"):
            print(f"{file.local_id}: {file.reason}: {file.detail}")

        part = client.ready("local", "reads.sam", on_job=lambda job: print(job.progress.step))
        print(part.filename, part.size, "bytes")
        print(client.manifest("local", "reads.sam").counts)
    except JobEnded as ended:
        print("not made:", ended.job.reason, ended.job.detail)
    except NotReachable as error:
        print(error)
