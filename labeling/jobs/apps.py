from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "labeling.jobs"
    verbose_name = "Jobs"

    def ready(self) -> None:
        from core.live import live_topic
        from labeling.jobs import selectors, tasks  # noqa: F401 - tasks registers the runner
        from labeling.jobs.models import ProcessingJob

        live_topic(ProcessingJob, ProcessingJob.objects.for_user, selectors.job_state)
