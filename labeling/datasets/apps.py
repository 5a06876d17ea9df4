from django.apps import AppConfig


class DatasetsConfig(AppConfig):
    name = "labeling.datasets"
    verbose_name = "Datasets"

    def ready(self) -> None:
        from core.live import live_topic
        from labeling.datasets import selectors, tasks  # noqa: F401 - registers the runner
        from labeling.datasets.models import Operation

        live_topic(Operation, selectors.operations, selectors.operation_state)
