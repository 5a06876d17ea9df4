from django.apps import AppConfig


class TrainingConfig(AppConfig):
    name = "training"
    verbose_name = "Training"

    def ready(self) -> None:
        from core.live import live_topic
        from labeling.jobs.class_heads import Keeper, keep_class_heads
        from training import class_head_tasks, class_heads, purging, tasks  # noqa: F401 - chore and runners register
        from training.models import ModelVersion, TrainingDataset

        live_topic(TrainingDataset, TrainingDataset.objects.for_user)
        live_topic(ModelVersion, ModelVersion.objects.for_user)
        keep_class_heads(Keeper(class_heads.active_snapshot, class_heads.checkpoint_file))
