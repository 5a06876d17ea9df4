from django.apps import AppConfig


class ReviewConfig(AppConfig):
    name = "labeling.review"
    verbose_name = "Review"
