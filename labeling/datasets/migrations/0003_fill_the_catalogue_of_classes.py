from django.db import migrations

from labeling.datasets.catalogue import CATALOGUE, PALETTE


def fill(apps, schema_editor):
    label_class = apps.get_model("datasets", "LabelClass")
    label_class.objects.bulk_create(
        label_class(
            number=number,
            name=item.name,
            color=PALETTE[(number - 1) % len(PALETTE)],
            shortcut=item.shortcut,
            text_prompt=item.text_prompt,
            height_m=item.size_hwl[0],
            width_m=item.size_hwl[1],
            length_m=item.size_hwl[2],
        )
        for number, item in enumerate(CATALOGUE, start=1)
    )


def empty(apps, schema_editor):
    apps.get_model("datasets", "LabelClass").objects.filter(dataset=None).delete()


class Migration(migrations.Migration):
    dependencies = [("datasets", "0002_list_the_work_of_an_operation")]

    operations = [migrations.RunPython(fill, empty)]
