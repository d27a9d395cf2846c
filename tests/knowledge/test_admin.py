import pytest
from django.urls import reverse

from knowledge.models import Document, Passage

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("model", "query"), [("document", "backflow"), ("passage", "D3D22")])
def test_lists_can_be_searched(admin_client, model, query):
    page = admin_client.get(reverse(f"admin:knowledge_{model}_changelist"), {"q": query})

    assert page.status_code == 200
    assert 0 < page.context["cl"].result_count < 20


@pytest.mark.parametrize(("name", "model"), [("document", Document), ("passage", Passage)])
def test_nothing_can_be_changed(admin_client, name, model):
    row = model.objects.first()

    assert admin_client.get(reverse(f"admin:knowledge_{name}_add")).status_code == 403
    assert (
        admin_client.post(reverse(f"admin:knowledge_{name}_change", args=[row.pk]), {"title": "x"}).status_code == 403
    )
    assert (
        admin_client.post(reverse(f"admin:knowledge_{name}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    )
    assert model.objects.filter(pk=row.pk).exists()


def test_a_member_sees_none_of_it(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("member"))

    assert client.get(reverse("admin:knowledge_document_changelist")).status_code == 302
