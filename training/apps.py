from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"
    verbose_name = "Training"

    def ready(self) -> None:
        from core.live import live_topic
        from training import purging, tasks  # noqa: F401 - they register the chore and the runner
        from training.models import TrainingDataset

        live_topic(TrainingDataset, TrainingDataset.objects.for_user)
