-- How much of a job's output was not kept, in bytes; null where all of it was, or
-- where the job has not ended. Lists show it, without a look at the job's run.
alter table jobs add column dropped_bytes integer;

update jobs set dropped_bytes = runs.dropped_bytes from runs
where runs.job_id = jobs.id and runs.position = 0 and runs.attempt = jobs.attempt
    and runs.dropped_bytes > 0;
