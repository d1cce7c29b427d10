"""What outlives the foundation is found again and used: by a stack made anew, and by one that wants it no longer."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.stub import Stubber

from infra import stacks
from pipeline import infrastructure, settings
from pipeline.clouds import Cloud
from pipeline.settings import Settings

ROLE = "arn:aws:iam::123456789012:role/any"


class Place(Cloud):
    """A cloud that asks the embedded SageMaker, as its tests do."""

    def client(self, service: str) -> Any:
        return self.session(service)


@pytest.fixture(scope="module", autouse=True)
def leave_no_provider(client: Callable[[str], Any]) -> Iterator[None]:
    """An account has one provider for GitHub, and other tests' stacks bring their own."""
    yield
    iam = client("iam")
    for provider in iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]:
        if provider["Arn"].endswith("/token.actions.githubusercontent.com"):
            iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=provider["Arn"])


@pytest.fixture
def place(client: Callable[[str], Any]) -> Place:
    return Place("local", client, "eu-central-1", f"bucket-{secrets.token_hex(4)}", ROLE)


def wanting(encryption: str, name: str) -> Settings:
    """Settings with all that a foundation may hold."""
    loaded = settings.load()
    return replace(
        loaded,
        name=name,
        aws=replace(loaded.aws, encryption=encryption),
        images=replace(loaded.images, repository=True),
        github=replace(loaded.github, owner="somebody", repository="signs"),
    )


def deploy(wanted: Settings, place: Place) -> dict[str, str]:
    return stacks.apply(place.client("cloudformation"), infrastructure.plan(wanted, place, "foundation"))


def changes(wanted: Settings, place: Place) -> dict[str, str]:
    planned = infrastructure.plan(wanted, place, "foundation")
    stacks.discard(place.client("cloudformation"), planned)
    return {change.logical_id: change.action for change in planned.changes}


def decrypting(place: Place, name: str) -> set[str]:
    """With which keys the pipeline's role may read."""
    document = place.client("iam").get_role_policy(RoleName=f"{name}-pipeline", PolicyName="objects")["PolicyDocument"]
    return {each["Resource"] for each in document["Statement"] if "kms:Decrypt" in json.dumps(each["Action"])}


def test_a_foundation_made_anew_uses_what_the_first_one_left(place: Place) -> None:
    name = f"signs-{secrets.token_hex(4)}"
    wanted = wanting("KMS", name)
    key = deploy(wanted, place)["KeyArn"]
    assert changes(wanted, place) == {}, "what is its own is not taken for another's"
    stacks.destroy(place.client("cloudformation"), infrastructure.name(wanted, "foundation"))
    assert deploy(wanted, place)["KeyArn"] == key
    assert decrypting(place, name) == {key}
    assert changes(wanted, place) == {}


def test_what_was_encrypted_can_be_read_when_no_key_is_wanted_any_more(place: Place) -> None:
    name = f"signs-{secrets.token_hex(4)}"
    key = deploy(wanting("KMS", name), place)["KeyArn"]
    assert "KeyArn" not in deploy(wanting("S3", name), place)
    assert decrypting(place, name) == {key}
    assert changes(wanting("S3", name), place) == {}
    assert deploy(wanting("KMS", name), place)["KeyArn"] == key, "no second key for the same bucket"


def test_a_key_is_kept_beside_a_bucket_that_was_there_before(place: Place) -> None:
    place.client("s3").create_bucket(
        Bucket=place.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    name = f"signs-{secrets.token_hex(4)}"
    key = deploy(wanting("KMS", name), place)["KeyArn"]
    deploy(wanting("S3", name), place)
    assert decrypting(place, name) == {key}, "the bucket says nothing of a key that volumes and outputs had"


@pytest.mark.parametrize("alias", ["alias/aws/s3", "arn:aws:kms:eu-central-1:123456789012:alias/aws/s3"])
def test_an_alias_of_a_bucket_is_no_key_of_ours(place: Place, alias: str) -> None:
    s3 = place.client("s3")
    s3.create_bucket(Bucket=place.bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": alias}}
    s3.put_bucket_encryption(Bucket=place.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]})
    assert "KeptKeyArn" not in infrastructure._parameters(wanting("S3", "signs"), place, "foundation")


def test_a_repository_that_is_wanted_again_is_the_same(place: Place) -> None:
    name = f"signs-{secrets.token_hex(4)}"
    wanted = wanting("S3", name)
    without = replace(wanted, images=replace(wanted.images, repository=False))
    for each in (wanted, without, wanted):
        deploy(each, place)
    assert place.client("ecr").describe_repositories(repositoryNames=[name])["repositories"]


def test_whoever_may_not_know_what_is_there_says_nothing_of_it(place: Place) -> None:
    """The role that shows what would change may not list providers: it must not announce one for that."""
    wanted = wanting("S3", f"signs-{secrets.token_hex(4)}")
    with Stubber(place.client("iam")) as iam:
        iam.add_client_error("list_open_id_connect_providers", "AccessDenied")
        given = infrastructure._parameters(wanted, place, "foundation")
        iam.assert_no_pending_responses()
    assert "CreateGitHubProvider" not in given
    assert given["CreateBucket"] == "true"
