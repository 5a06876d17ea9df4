"""Rows for tests. Each factory makes the least that is valid; what a test is about, it states itself."""

from typing import Any

import factory
from factory.django import DjangoModelFactory

from accounts.models import ApiKey, Role, User
from labeling.datasets.models import Calibration, Dataset, DatasetFile, LabelClass, Membership, Operation


class UserFactory(DjangoModelFactory):
    class Meta:
        model = User
        skip_postgeneration_save = True

    email = factory.Sequence(lambda n: f"person{n}@example.org")
    password = factory.django.Password("a long password")


class DatasetFactory(DjangoModelFactory):
    """`DatasetFactory(owner=user)` makes `user` its owner."""

    class Meta:
        model = Dataset
        skip_postgeneration_save = True

    name = factory.Sequence(lambda n: f"Dataset {n}")

    @factory.post_generation
    def owner(self: Dataset, create: bool, user: User | None, **kwargs: Any) -> None:
        if create and user is not None:
            Membership.objects.create(dataset=self, user=user, role=Role.OWNER)


class MembershipFactory(DjangoModelFactory):
    class Meta:
        model = Membership

    dataset = factory.SubFactory(DatasetFactory)
    user = factory.SubFactory(UserFactory)
    role = Role.VIEWER


class LabelClassFactory(DjangoModelFactory):
    class Meta:
        model = LabelClass

    dataset = factory.SubFactory(DatasetFactory)
    number = factory.Sequence(lambda n: n + 1)
    name = factory.Sequence(lambda n: f"class {n}")
    color = "#1f77b4"


class ApiKeyFactory(DjangoModelFactory):
    """A key nobody can use: its secret is unknown. Use accounts.services.create_api_key for one that works."""

    class Meta:
        model = ApiKey

    user = factory.SubFactory(UserFactory)
    name = "A key"
    prefix = factory.Sequence(lambda n: f"p{n}")
    digest = "0" * 64


class DatasetFileFactory(DjangoModelFactory):
    """A readable recording that is not on disk."""

    class Meta:
        model = DatasetFile

    dataset = factory.SubFactory(DatasetFactory)
    name = factory.Sequence(lambda n: f"recording{n}.svo2")
    path = factory.LazyAttribute(lambda row: f"/recordings/{row.name}")
    original_path = factory.SelfAttribute("path")
    kind = "svo2"
    status = DatasetFile.Status.READY
    frame_count = 12
    stereo = True


class CalibrationFactory(DjangoModelFactory):
    class Meta:
        model = Calibration

    dataset = factory.SubFactory(DatasetFactory)
    serial = factory.Sequence(lambda n: str(10_000 + n))
    source = Calibration.Source.UPLOADED
    format = Calibration.Format.ZED_CONF
    path = factory.LazyAttribute(lambda row: f"/calibrations/SN{row.serial}.conf")
    sha256 = factory.Sequence(lambda n: f"{n:064x}")
    baseline_m = 0.12


class OperationFactory(DjangoModelFactory):
    class Meta:
        model = Operation

    dataset = factory.SubFactory(DatasetFactory)
    kind = Operation.Kind.SCAN
    parameters = {"path": "/recordings"}
