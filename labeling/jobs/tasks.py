"""The background work of jobs; what it does is in labeling.jobs.runner, which loads the engine on first use."""

from core.work import Lease, Outcome, runner
from labeling.jobs.models import ProcessingJob


@runner(ProcessingJob)
def run_job(lease: Lease[ProcessingJob]) -> Outcome:
    from labeling.jobs.runner import JobRun

    return JobRun(lease).run()
