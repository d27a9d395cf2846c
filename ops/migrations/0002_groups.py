"""The three groups and what each may do. Django makes permissions only after all migrations, so they are made here."""

from django.db import migrations

GROUPS = {
    "flag managers": [
        ("flags", "flag", ("view", "change")),
        ("flags", "switch", ("view", "change")),
        ("flags", "setting", ("view", "change")),
    ],
    "compliance reviewers": [
        ("audit", "event", ("view", "reveal_content", "export_proof")),
        ("flags", "flag", ("view",)),
        ("flags", "switch", ("view",)),
        ("flags", "setting", ("view",)),
    ],
    "operators": [
        ("ops", "operations", ("operate",)),
        ("flags", "flag", ("view",)),
        ("flags", "switch", ("view",)),
        ("flags", "setting", ("view",)),
    ],
}
NAMES = {
    "reveal_content": "Can reveal the content of a turn",
    "export_proof": "Can export evidence",
    "operate": "Can see metrics and the operations dashboard",
}


def groups_make(apps, schema_editor):
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    ContentType = apps.get_model("contenttypes", "ContentType")
    for name, grants in GROUPS.items():
        group, _ = Group.objects.get_or_create(name=name)
        for app_label, model, actions in grants:
            content_type, _ = ContentType.objects.get_or_create(app_label=app_label, model=model)
            for action in actions:
                custom = action in NAMES
                permission, _ = Permission.objects.get_or_create(
                    content_type=content_type,
                    codename=action if custom else f"{action}_{model}",
                    defaults={"name": NAMES[action] if custom else f"Can {action} {model}"},
                )
                group.permissions.add(permission)


def groups_drop(apps, schema_editor):
    apps.get_model("auth", "Group").objects.filter(name__in=GROUPS).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("ops", "0001_initial"),
        ("audit", "0001_initial"),
        ("flags", "0001_initial"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]
    operations = [migrations.RunPython(groups_make, groups_drop)]
