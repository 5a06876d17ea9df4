from django.apps import AppConfig


class DatasetsConfig(AppConfig):
    name = "labeling.datasets"
    verbose_name = "Datasets"

    def ready(self) -> None:
        from labeling.datasets import tasks  # noqa: F401 - registers the runner
