from django.apps import AppConfig


class JobsConfig(AppConfig):
    name = "labeling.jobs"
    verbose_name = "Jobs"
