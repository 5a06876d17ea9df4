from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("datasets", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="operation",
            name="work_list",
            field=models.JSONField(
                default=None, editable=False, help_text="Ids of the files to do, in order", null=True
            ),
        ),
    ]
